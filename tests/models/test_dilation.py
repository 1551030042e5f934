"""Does dilation keep what pretrained weights compute, at more places?"""

import copy
from typing import Any

import pytest
import torch
import torchvision
from encoder_cases import assert_same_features, build, given_networks, randomised
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from segtrain.models.encoders import MobileNetEncoder, ResNetEncoder, VGGEncoder, pretrained
from segtrain.models.encoders.dilation import RightPaddedConv2d, RightPaddedPool2d

__all__ = ["given_networks"]  # a fixture

# without squeeze-and-excitation, whose global means differ; MobileNet follows torchvision's other convention
EXACT = ("resnet18", "resnet50", "vgg11", "vgg11_bn", "convnext_tiny", "densenet121", "regnet_x_400mf")


def assert_dilation_only_adds_places(plain: nn.Module, dilated: Any, output_stride: int) -> None:
    """Compare all features at the pixels that the network without dilation has."""
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = dilated(image), plain(image)
    assert ours[-1].shape[-2:] == (64 // output_stride, 96 // output_stride)
    steps = [our.shape[-1] // their.shape[-1] for our, their in zip(ours, theirs, strict=True)]
    assert steps[-3:] == ([1, 2, 4] if output_stride == 8 else [1, 1, 2])
    sampled = [feature[..., ::step, ::step] for feature, step in zip(ours, steps, strict=True)]
    assert_same_features(sampled, theirs)


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("name", EXACT)
def test_a_dilated_network_computes_the_same_at_more_places(name: str, output_stride: int) -> None:
    dilated = build(name, output_stride=output_stride).eval()
    assert_dilation_only_adds_places(build(name).eval(), dilated, output_stride)


def test_vggs_convolutional_classifier_is_dilated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.vgg11().requires_grad_(False)
    monkeypatch.setattr(pretrained, "get_model", lambda name, **_: copy.copy(whole))
    plain = VGGEncoder("vgg11", fc_as_conv=True).eval()
    for output_stride in (16, 8):
        whole.features = copy.deepcopy(plain.features)
        dilated = VGGEncoder("vgg11", fc_as_conv=True, output_stride=output_stride).eval()
        assert dilated.fc6[0].dilation == (32 // output_stride,) * 2
        assert_dilation_only_adds_places(plain, dilated, output_stride)


@pytest.mark.parametrize(("output_stride", "replaced"), [(16, [False, False, True]), (8, [False, True, True])])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_a_dilated_resnet_is_torchvisions_with_stride_replaced_by_dilation(
    name: str, output_stride: int, replaced: list[bool]
) -> None:
    theirs = randomised(torchvision.models.get_model(name, replace_stride_with_dilation=replaced))
    encoder = ResNetEncoder(name, output_stride=output_stride).eval()
    assert encoder.load_state_dict(theirs.state_dict(), strict=False).missing_keys == []
    image = torch.rand(1, 3, 64, 64)
    layers = {layer: layer for layer in ("relu", "layer1", "layer2", "layer3", "layer4")}
    with torch.no_grad():
        features = IntermediateLayerGetter(theirs, return_layers=layers)(image)
        assert_same_features(encoder(image), list(features.values()))


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_a_dilated_mobilenet_is_torchvisions_dilated_one(name: str) -> None:
    theirs = randomised(torchvision.models.get_model(name, dilated=True))
    encoder = MobileNetEncoder(name, output_stride=16).eval()
    assert encoder.load_state_dict(theirs.state_dict(), strict=False).missing_keys == []
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image)[-1:], [theirs.features(image)])


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", [*EXACT, "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s"])
def test_dilation_changes_no_weight_and_claims_its_strides(name: str, output_stride: int) -> None:
    plain, dilated = build(name), build(name, output_stride=output_stride).eval()
    own, other = plain.state_dict(), dilated.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own if not key.startswith("norms."))
    assert dilated.channels == plain.channels
    assert dilated.strides == tuple(min(stride, output_stride) for stride in plain.strides)
    with torch.no_grad():
        features = dilated(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape[-2:]) for f in features] == [(64 // stride, 96 // stride) for stride in dilated.strides]


def dilations_of(layer: nn.Module) -> list[int]:
    """Return the dilations of the 3x3 convolutions, which must be padded by as much."""
    convs = [m for m in layer.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(conv.padding == conv.dilation and conv.stride == (1, 1) for conv in convs)
    return [conv.dilation[0] for conv in convs]


@pytest.mark.usefixtures("given_networks")
def test_the_blocks_of_the_last_stage_get_their_multiples_of_its_dilation() -> None:
    # resnet50: 6 and 3 blocks of one 3x3 convolution; resnet18: 2 blocks of two
    encoder = build("resnet50", output_stride=16, multi_grid=[1, 2, 4])
    assert dilations_of(encoder.layer4) == [2, 4, 8]
    encoder = build("resnet50", output_stride=8, multi_grid=[1, 2, 1])
    assert dilations_of(encoder.layer3) == [1, 2, 2, 2, 2, 2]
    assert dilations_of(encoder.layer4) == [4, 8, 4]
    assert dilations_of(build("resnet18", output_stride=16, multi_grid=[1, 2]).layer4) == [2, 2, 4, 4]
    assert dilations_of(build("resnet18", output_stride=16).layer4) == [1, 2, 2, 2]


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"multi_grid": [1, 2]}, "multi_grid: only a dilated last stage has one; give output_stride 16 or 8"),
        ({"multi_grid": [1, 2, 4], "output_stride": 16}, r"multi_grid: \[1, 2, 4\] has not one rate.*2 blocks"),
        ({"multi_grid": [1, 0], "output_stride": 8}, r"multi_grid: \[1, 0\] has not one rate, 1 or more"),
        ({"multi_grid": [], "output_stride": 8}, r"multi_grid: \[\] has not one rate"),
    ],
)
def test_rates_that_the_last_stage_cannot_have_are_errors(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build("resnet18", **arguments)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, 2), nn.AvgPool2d(2, 2)])
def test_a_pooling_without_stride_pools_pixels_that_are_the_dilation_apart(pool: Any, dilation: int) -> None:
    x = torch.randn(2, 3, 7, 6)
    ours = RightPaddedPool2d.like(pool, dilation)(x)
    assert ours.shape == x.shape
    for row in range(7):
        for column in range(6):
            # beyond the border the row or column repeats itself
            right = column + dilation if column + dilation < 6 else column
            below = row + dilation if row + dilation < 7 else row
            corners = torch.stack([x[..., r, c] for r in (row, below) for c in (column, right)])
            expected = corners.amax(0) if isinstance(pool, nn.MaxPool2d) else corners.mean(0)
            torch.testing.assert_close(ours[..., row, column], expected)


def test_a_convolution_of_even_size_without_stride_has_the_strided_ones_values() -> None:
    conv = nn.Conv2d(3, 5, 2, stride=2)
    padded = RightPaddedConv2d.like(conv, 1)
    x = torch.randn(1, 3, 8, 6)
    assert padded.weight is conv.weight
    torch.testing.assert_close(padded(x)[..., ::2, ::2], conv(x))
