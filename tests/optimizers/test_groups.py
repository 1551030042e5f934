"""Is every parameter in exactly one group, with the learning rate and weight decay that it should have?"""

from typing import Any

import pytest
import torch
from torch import nn

from segtrain.models import UNet
from segtrain.models.encoders import UNetEncoder
from segtrain.optimizers.groups import parameter_groups


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
