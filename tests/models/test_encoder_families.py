"""Are the features of torchvision's families torchvision's own, for its files, at the strides that they claim?"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from encoder_cases import (
    FAMILIES,
    LIGHTEST,
    OTHERS,
    TAPS,
    assert_same_features,
    build,
    given_networks,
    network,
    randomised,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from segtrain.models.encoders import (
    DenseNetEncoder,
    EfficientNetEncoder,
    ResNetEncoder,
    SegNetBasicEncoder,
    UNetEncoder,
    VGGEncoder,
    pretrained,
)
from segtrain.models.weights import fit_weights

__all__ = ["given_networks"]  # a fixture


def torchvisions_features(name: str, image: Tensor) -> list[Tensor]:
    """Return what torchvision's network computes at the taps, as an encoder presents it."""
    with torch.no_grad():
        features = list(create_feature_extractor(network(name), list(TAPS[name]))(image).values())
    if name.startswith("densenet"):
        features[-1] = features[-1].relu()
    if name.startswith(("swin", "convnext")):  # new layer norms, over the channels of each pixel
        last = [f if name.startswith("swin") else f.permute(0, 2, 3, 1) for f in features]
        features = [F.layer_norm(f, f.shape[-1:], eps=1e-6).permute(0, 3, 1, 2) for f in last]
    return features


@pytest.mark.parametrize("name", TAPS)
def test_an_encoder_filled_from_torchvisions_file_has_torchvisions_features(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.pth"
    torch.save(network(name).state_dict(), path)
    encoder = build(name, weights=str(path)).eval()
    image = torch.rand(1, 3, 65, 96)
    with torch.no_grad():
        assert_same_features(encoder(image), torchvisions_features(name, image))


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_a_safetensors_file_is_as_good(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(network(name).state_dict(), path)
    encoder = build(name, weights=str(path)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image), torchvisions_features(name, image))


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", LIGHTEST)
def test_names_in_the_state_dict_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = network(name).state_dict().keys()
    added = {key for key in build(name).state_dict() if key.startswith("norms.")}
    assert build(name).state_dict().keys() - added <= theirs
    assert len(added) == (8 if name in ("convnext_tiny", "swin_t") else 0)


def names() -> list[Any]:
    """Return the names of all families but those that only repeat more blocks; RegNet cannot be built on meta."""
    deeper = (
        "efficientnet_b3",
        "efficientnet_b4",
        "efficientnet_b5",
        "efficientnet_b6",
        "efficientnet_v2_m",
        "swin_v2_b",
    )
    deeper += (
        "densenet169",
        "densenet201",
        "swin_s",
        "swin_v2_s",
        "resnet152",
        "resnext101_64x4d",
        "convnext_base",
        "vgg16",
    )
    found = [name for family in FAMILIES for name in family.names if not name.startswith("regnet")]
    return [*(name for name in found if name not in deeper), "regnet_x_400mf", "regnet_y_400mf"]


@pytest.mark.parametrize("name", names())
def test_strides_and_channels_are_those_of_the_features(name: str) -> None:
    with torch.device("cpu" if name.startswith("regnet") else "meta"), torch.no_grad():
        encoder = build(name).eval()
        features = encoder(torch.rand(1, 3, 64, 96))
    shapes = [(1, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes
    assert encoder.strides == ((4, 8, 16, 32) if name.startswith(("swin", "convnext")) else (2, 4, 8, 16, 32))


@pytest.mark.parametrize("name", OTHERS)
def test_strides_and_channels_of_the_other_encoders_are_those_of_the_features(name: str) -> None:
    encoder = build(name).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 96))
    shapes = [(1, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes


def test_the_families_have_all_their_networks_in_torchvision() -> None:
    # those that are no family here: of other shapes, or with features of no use for segmentation
    others = ("alexnet", "googlenet", "inception", "maxvit", "mnasnet", "shufflenet", "squeezenet", "vit_")
    ours = sorted(name for family in FAMILIES for name in family.names)
    all_names = torchvision.models.list_models(module=torchvision.models)
    assert ours == sorted(name for name in all_names if not name.startswith(others))


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_vgg_before_pooling_has_the_features_whose_poolings_are_the_others(name: str) -> None:
    image = torch.rand(1, 3, 64, 96)
    pooled, before = build(name, weights=None).eval(), build(name, before_pooling=True).eval()
    assert before.strides == (1, 2, 4, 8, 16, 32)
    assert before.channels == (64, 128, 256, 512, 512, 512)
    with torch.no_grad():
        *unpooled, last = before(image)
        assert_same_features([F.max_pool2d(feature, 2) for feature in unpooled], pooled(image))
        assert_same_features([last], [network(name).features(image)])


@pytest.fixture(scope="module")
def whole_vgg11() -> Any:
    """Return VGG-11 with its classifier, which has 124 M parameters."""
    torch.manual_seed(0)
    return torchvision.models.vgg11().eval()


@pytest.mark.parametrize("from_file", [True, False])
def test_vggs_convolutional_classifier_is_the_classifier_on_an_image_of_its_size(
    whole_vgg11: Any, from_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "get_model", lambda name, **_: whole_vgg11)
    encoder = VGGEncoder("vgg11", fc_as_conv=True).eval()
    if from_file:  # under DataParallel's names
        for parameter in (encoder.fc6[0].weight, encoder.fc7[0].weight):
            parameter.data = torch.zeros_like(parameter)
        state = {f"module.{key}": value for key, value in whole_vgg11.state_dict().items()}
        fit = fit_weights(encoder, encoder.translate(state))
        assert (fit.missing, fit.other_shape) == ([], [])
        assert fit.unused == ["module.classifier.6.weight", "module.classifier.6.bias"]
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        pool5 = whole_vgg11.features(image)
        theirs = whole_vgg11.classifier[:6](pool5.flatten(1))  # fc7 with its ReLU
        ours = encoder(image)[-1]
    assert encoder.channels[-1] == 4096
    assert ours.shape == (1, 4096, 7, 7)
    assert_same_features([ours[:, :, 3, 3]], [theirs])


def test_densenets_files_of_old_torchvisions_load(tmp_path: Path) -> None:
    old = {}
    for key, tensor in network("densenet121").state_dict().items():
        for name in ("norm", "conv"):
            for number in "12":
                key = key.replace(f".{name}{number}.", f".{name}.{number}.")
        old[key] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    encoder = DenseNetEncoder("densenet121", weights=str(tmp_path / "old.pth")).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image), torchvisions_features("densenet121", image))


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_v2_s", "convnext_tiny", "swin_t", "swin_v2_t"])
def test_the_last_block_is_left_out_with_the_given_probability(name: str) -> None:
    blocks = [
        module.p
        for module in build(name, drop_path=0.4).modules()
        if isinstance(module, torchvision.ops.StochasticDepth)
    ]
    depth = {"efficientnet_b0": 16, "efficientnet_v2_s": 40, "convnext_tiny": 18, "swin_t": 12, "swin_v2_t": 12}[name]
    assert blocks == pytest.approx([0.4 * number / (depth - 1) for number in range(depth)])


def test_stochastic_depth_is_for_training_alone() -> None:
    torch.manual_seed(0)
    encoder, image = EfficientNetEncoder("efficientnet_b0", drop_path=0.5), torch.rand(8, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(encoder(image)[-1], encoder(image)[-1])
        encoder.eval()
        assert torch.equal(encoder(image)[-1], encoder(image)[-1])


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", [*LIGHTEST, *OTHERS])
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    encoder = randomised(build(name))
    sum(
        (feature * torch.randn_like(feature)).sum().square() for feature in encoder(torch.rand(2, 3, 64, 64))
    ).backward()
    without = [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", [*LIGHTEST, *OTHERS])
def test_the_stages_have_every_parameter_once(name: str) -> None:
    encoder = build(name)
    stages = [parameter for stage in encoder.stages() for module in stage for parameter in module.parameters()]
    # the norms that ConvNeXt and Swin get for segmentation are new, and no part of what is frozen
    all_of_them = [p for key, p in encoder.named_parameters() if not key.startswith("norms.")]
    assert len(stages) == len(all_of_them)
    assert {id(p) for p in stages} == {id(p) for p in all_of_them}
    assert len(encoder.stages()) in (1, len(encoder.strides))


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "densenet121", "regnet_y_400mf", "unet", "timm_lcnet_050"])
def test_frozen_stages_neither_learn_nor_follow_the_batches(name: str) -> None:
    encoder = build(name)
    encoder.freeze(2)
    encoder.eval().train()
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    features = encoder(torch.rand(2, 3, 64, 64))
    sum(feature.square().sum() for feature in features).backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    frozen = {
        id(t) for stage in encoder.stages()[:2] for module in stage for t in module.state_dict(keep_vars=True).values()
    }
    assert frozen
    after = encoder.state_dict(keep_vars=True)
    for key, tensor in after.items():
        unchanged = torch.equal(tensor, before[key])
        assert unchanged == (id(tensor) in frozen), key
        if isinstance(tensor, nn.Parameter):
            assert tensor.requires_grad == (id(tensor) not in frozen)


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", LIGHTEST)
def test_freezing_all_stages_leaves_only_the_new_norms(name: str) -> None:
    encoder = build(name)
    encoder.freeze(len(encoder.stages()))
    assert all(key.startswith("norms.") for key, p in encoder.named_parameters() if p.requires_grad)
    assert encoder.training
    assert not any(m.training for stage in encoder.stages() for module in stage for m in module.modules())


@pytest.mark.parametrize("count", [-1, 6])
def test_freezing_more_stages_than_there_are_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} is not in 0 to 5, the stages of ResNetEncoder"):
        ResNetEncoder("resnet18").freeze(count)


def test_the_unet_encoder_rounds_odd_sizes_up_and_segnets_down() -> None:
    image = torch.rand(1, 3, 97, 131)
    features = UNetEncoder(base_channels=2, depth=4).eval()(image)
    assert [tuple(feature.shape[2:]) for feature in features] == [(97, 131), (49, 66), (25, 33), (13, 17)]
    features = SegNetBasicEncoder(base_channels=2).eval()(image)
    assert [tuple(feature.shape[2:]) for feature in features] == [(48, 65), (24, 32), (12, 16), (6, 8)]
