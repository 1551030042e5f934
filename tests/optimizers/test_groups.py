"""Is every parameter in exactly one group, with the learning rate and weight decay that it should have?"""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from segtrain.models import UNet
from segtrain.models.encoders import Encoder, SwinEncoder, UNetEncoder
from segtrain.optimizers.groups import hidden_weights, lr_factor, parameter_groups


def network() -> UNet:
    return UNet(2, encoder=UNetEncoder(base_channels=2, depth=3))


def ids(groups: list[dict[str, Any]]) -> list[int]:
    return [id(parameter) for group in groups for parameter in group["params"]]


@pytest.mark.parametrize("factor", [1.0, 0.1])
@pytest.mark.parametrize("decay_all", [True, False])
def test_every_trainable_parameter_is_in_exactly_one_group(factor: float, decay_all: bool) -> None:
    model = network()
    model.classifier.weight.requires_grad_(False)
    found = ids(parameter_groups(model, lr=0.1, encoder_lr_factor=factor, decay_norm_and_bias=decay_all))
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_norms_and_biases_have_no_weight_decay_and_everything_else_has_the_optimizers() -> None:
    model = network()
    groups = parameter_groups(model, lr=0.1, encoder_lr_factor=1.0, decay_norm_and_bias=False)
    free = {id(p) for group in groups if group.get("weight_decay") == 0 for p in group["params"]}
    expected = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    expected |= {
        id(m.bias) for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.bias is not None
    }
    assert free == expected
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}


def test_with_decay_on_everything_there_is_one_group_as_torch_makes_it() -> None:
    model = network()
    (group,) = parameter_groups(model, lr=0.1, encoder_lr_factor=1.0, decay_norm_and_bias=True)
    assert group.keys() == {"params", "name"}
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_the_encoders_learning_rate_is_the_factor_times_the_others() -> None:
    model = network()
    groups = parameter_groups(model, lr=0.4, encoder_lr_factor=0.1, decay_norm_and_bias=False)
    optimizer = torch.optim.SGD(groups, lr=0.4)
    encoder = {id(p) for p in model.encoder.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(0.04 if id(parameter) in encoder else 0.4)


def test_a_name_that_only_begins_like_the_encoders_is_not_the_encoder() -> None:
    model = nn.Module()
    model.encoder, model.encoder2 = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = parameter_groups(model, lr=1.0, encoder_lr_factor=0.5, decay_norm_and_bias=True)
    slow = [id(p) for group in groups if group.get("lr") == 0.5 for p in group["params"]]
    assert slow == [id(p) for p in model.encoder.parameters()]


def test_a_factor_of_zero_stands_still_with_the_encoder() -> None:
    model = network()
    groups = parameter_groups(model, lr=0.4, encoder_lr_factor=0.0, decay_norm_and_bias=True)
    assert sorted(group.get("lr", 0.4) for group in groups) == [0.0, 0.4]


def test_a_factor_for_a_model_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder_lr_factor: Linear has no attribute `encoder`; give 1\.0"):
        parameter_groups(nn.Linear(2, 2), lr=0.1, encoder_lr_factor=0.1, decay_norm_and_bias=False)


def test_a_factor_without_a_learning_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder_lr_factor: set optimizer\.lr too"):
        parameter_groups(network(), lr=None, encoder_lr_factor=0.1, decay_norm_and_bias=False)


def test_a_model_without_an_encoder_needs_no_factor() -> None:
    groups = parameter_groups(nn.Linear(2, 2), lr=None, encoder_lr_factor=1.0, decay_norm_and_bias=False)
    assert len(groups) == 2


def rates(groups: list[dict[str, Any]]) -> dict[int, float]:
    return {id(p): group.get("lr", 1.0) for group in groups for p in group["params"]}


def test_each_stage_of_the_encoder_is_slower_by_the_decay_than_the_one_after_it() -> None:
    model = network()
    groups = parameter_groups(model, lr=1.0, encoder_lr_factor=0.5, layer_decay=0.8)
    found = rates(groups)
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    for depth, block in enumerate(reversed(model.encoder.blocks), start=1):
        slow = [found[id(p)] for p in block.parameters()]
        assert slow == pytest.approx(len(slow) * [0.5 * 0.8**depth])
    outside = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    assert {found[id(p)] for p in outside} == {1.0}


def test_norms_at_the_features_have_the_encoders_rate_whole() -> None:
    encoder = SwinEncoder("swin_t")
    model = nn.Module()
    model.encoder, model.classifier = encoder, nn.Linear(2, 2)
    found = rates(parameter_groups(model, lr=1.0, encoder_lr_factor=0.5, layer_decay=0.8))
    staged = {id(p) for stage in encoder.stages() for module in stage for p in module.parameters()}
    at_features = [p for p in encoder.parameters() if id(p) not in staged]
    assert at_features
    assert {found[id(p)] for p in at_features} == {0.5}


class WithoutStages(Encoder):
    """An encoder whose author did not say what its stages are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.layer(image)]


@pytest.mark.parametrize("encoder", [WithoutStages(), nn.Linear(2, 2)])
def test_layer_decay_for_an_encoder_without_stages_is_refused(encoder: nn.Module) -> None:
    model = nn.Module()
    model.encoder = encoder
    with pytest.raises(ValueError, match=rf"^layer_decay: 0\.8 .*{type(encoder).__name__} does not say.*give 1\.0"):
        parameter_groups(model, lr=1.0, layer_decay=0.8)


def test_layer_decay_without_encoder_or_learning_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^layer_decay: Linear has no attribute `encoder`"):
        parameter_groups(nn.Linear(2, 2), lr=1.0, layer_decay=0.8)
    with pytest.raises(ValueError, match=r"^layer_decay: set optimizer\.lr too"):
        parameter_groups(network(), lr=None, layer_decay=0.8)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: torchvision.models.swin_t(weights=None), {"relative_position_bias_table"}),
        (lambda: torchvision.models.convnext_tiny(weights=None), {"layer_scale"}),
        (lambda: torchvision.models.vit_b_16(weights=None), {"class_token", "pos_embedding"}),
    ],
)
def test_positions_tokens_and_scales_have_no_weight_decay_whatever_their_shape(build: Any, names: set[str]) -> None:
    with torch.device("meta"):
        model = build()
    groups = parameter_groups(model, lr=1.0)
    free = {id(p) for group in groups if group.get("weight_decay") == 0 for p in group["params"]}
    found = {path.rpartition(".")[2] for path, p in model.named_parameters() if id(p) in free and p.ndim > 1}
    assert found == names
    matrices = (nn.Linear, nn.Conv2d)
    assert not free & {id(m.weight) for m in model.modules() if isinstance(m, matrices)}


def test_groups_have_names_of_their_own_that_say_what_is_in_them() -> None:
    model = network()
    names = [group["name"] for group in parameter_groups(model, lr=1.0, layer_decay=0.8)]
    stages = [f"encoder_stage{number}" for number in (1, 2, 3)]
    assert sorted(names) == sorted([*stages, "head", *(f"{name}_no_decay" for name in [*stages, "head"])])
    assert {group["name"] for group in parameter_groups(model, lr=1.0)} == {"model", "model_no_decay"}
    marked = parameter_groups(model, lr=1.0, encoder_lr_factor=0.5, hidden=hidden_weights(model, num_classes=2))
    assert {group["name"]: group["hidden"] for group in marked} == {
        "encoder_hidden": True,
        "encoder_other": False,
        "encoder_other_no_decay": False,
        "head_hidden": True,
        "head_other": False,
        "head_other_no_decay": False,
    }


def test_hidden_weights_are_those_of_layers_between_first_and_last() -> None:
    model = UNet(5, encoder=UNetEncoder(base_channels=2, depth=3))
    found = {id(p) for p in hidden_weights(model, num_classes=5)}
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    image, last = next(m for m in convolutions if m.in_channels == 3), model.classifier
    assert found == {id(m.weight) for m in convolutions if m not in (image, last)}


def test_grouped_convolutions_embeddings_and_auxiliary_classifiers_are_not_hidden() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Embedding(4, 8),
        nn.Conv2d(8, 5, 1),
        nn.Linear(8, 6),
        nn.Linear(6, 5),
    )
    (only,) = hidden_weights(model, num_classes=5)
    assert only is model[5].weight


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_parameters_that_are_trained_later_are_in_the_groups_that_they_would_be_in_now(layer_decay: float) -> None:
    model = network()
    expected = parameter_groups(model, lr=0.1, layer_decay=layer_decay)
    model.encoder.freeze(2)
    model.classifier.weight.requires_grad_(False)  # for good
    later = model.encoder.frozen_parameters()
    assert later
    found = parameter_groups(model, lr=0.1, layer_decay=layer_decay, trained_later=later)
    ours, theirs = ([{**g, "params": [id(p) for p in g["params"]]} for g in groups] for groups in (found, expected))
    for group in theirs:
        group["params"] = [key for key in group["params"] if key != id(model.classifier.weight)]
    assert sorted(ours, key=lambda g: g["name"]) == sorted(
        (group for group in theirs if group["params"]), key=lambda g: g["name"]
    )


@pytest.mark.parametrize(("rule", "expected"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_learning_rate_follows_the_batch_size_by_the_rule(rule: str, expected: float) -> None:
    assert lr_factor(rule, batch_size=64, base=16) == pytest.approx(expected)
    assert lr_factor(rule, batch_size=16, base=16) == 1
