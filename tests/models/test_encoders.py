"""Does every encoder take any image, answer to grey as to RGB, and refuse what it cannot do in a sentence?"""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from encoder_cases import LIGHTEST, assert_same_features, build, given_networks, network
from torch import nn

from segtrain.models.encoders import (
    ConvNeXtEncoder,
    DenseNetEncoder,
    EfficientNetEncoder,
    Encoder,
    MobileNetEncoder,
    RegNetEncoder,
    ResNetEncoder,
    SegNetBasicEncoder,
    SwinEncoder,
    UNetEncoder,
    VGGEncoder,
    pretrained,
)
from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, check_encoder_stride
from segtrain.models.encoders.pretrained import adapt_first_conv

__all__ = ["given_networks"]  # a fixture


def test_the_deepest_feature_of_a_stride_is_found() -> None:
    encoder = ResNetEncoder("resnet18", output_stride=8)
    assert encoder.strides == (2, 4, 8, 8, 8)
    assert encoder.feature_at(4) == 1
    assert encoder.feature_at(8) == 4
    with pytest.raises(
        ValueError, match=r"needs a feature of stride 16, and ResNetEncoder has strides \(2, 4, 8, 8, 8"
    ):
        encoder.feature_at(16)


def test_another_output_stride_than_the_models_is_an_error() -> None:
    encoder = ResNetEncoder("resnet18", output_stride=16)
    check_encoder_stride(encoder, 16)
    with pytest.raises(ValueError, match="output_stride: 8 is wanted and the encoder has 16"):
        check_encoder_stride(encoder, 8)


@pytest.mark.parametrize(
    ("family", "arguments", "sentence"),
    [
        (ResNetEncoder, {"name": "resnet19"}, r"name: ResNetEncoder has no 'resnet19' \(accepts: resnet101, "),
        (MobileNetEncoder, {"name": "resnet18"}, r"name: MobileNetEncoder has no 'resnet18' \(accepts: mobilenet_v2"),
        (VGGEncoder, {"name": "vgg12"}, r"name: VGGEncoder has no 'vgg12' \(accepts: vgg11, vgg11_bn"),
        (ResNetEncoder, {"output_stride": 4}, "output_stride: 4 is not one of 8, 16, 32 for resnet50"),
        (VGGEncoder, {"name": "vgg11", "output_stride": 64}, "output_stride: 64 is not one of 8, 16, 32 for vgg11"),
        (SwinEncoder, {"name": "swin_t", "output_stride": 16}, "output_stride: 16 is not one of 32 for swin_t"),
        (
            ResNetEncoder,
            {"weights": "IMAGENET"},
            r"weights: resnet50 has no 'IMAGENET' \(accepts: IMAGENET1K_V1, IMAGE",
        ),
        (
            DenseNetEncoder,
            {"name": "densenet121", "weights": "x"},
            "weights: densenet121 has no 'x' .*or null for none",
        ),
        (RegNetEncoder, {"name": "regnet_x_400mf", "weights": "X"}, "accepts: IMAGENET1K_V1, IMAGENET1K_V2, a .pth, "),
        (ConvNeXtEncoder, {"name": "convnext_tiny", "drop_path": 1.0}, "drop_path: 1.0 is not in 0 to below 1"),
        (EfficientNetEncoder, {"name": "efficientnet_b0", "drop_path": -0.1}, "drop_path: -0.1 is not in 0"),
        (UNetEncoder, {"depth": 1}, "depth: 1 leaves nothing to connect"),
        (SegNetBasicEncoder, {"depth": 0}, "depth: 0 leaves nothing to pool"),
        (SegNetBasicEncoder, {"kernel_size": 4}, "kernel_size: 4 is even"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(family: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        family(**arguments)


@pytest.mark.parametrize("error", [URLError("no route"), ConnectionResetError("reset"), TimeoutError("slow")])
def test_weights_that_cannot_be_downloaded_are_an_error_with_the_remedy(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, *, weights: str | None) -> nn.Module:
        raise error

    monkeypatch.setattr(pretrained, "get_model", offline)
    with pytest.raises(ValueError, match=r"weights: IMAGENET1K_V1 of resnet18 .*cannot be downloaded.*null, or put"):
        ResNetEncoder("resnet18", weights="IMAGENET1K_V1")


@pytest.mark.usefixtures("given_networks")
@pytest.mark.parametrize("name", LIGHTEST)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_pretrained_encoders_expect_imagenets_statistics_and_answer_to_grey_as_to_rgb(
    name: str, in_channels: int
) -> None:
    rgb = build(name, weights="IMAGENET1K_V1").eval()
    other = build(name, weights="IMAGENET1K_V1", in_channels=in_channels).eval()
    assert other.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * in_channels)
    assert other.std == pytest.approx([(0.229 + 0.224 + 0.225) / 3] * in_channels)
    assert (rgb.mean, rgb.std) == (IMAGENET_MEAN, IMAGENET_STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        ours, theirs = other(grey.expand(-1, in_channels, -1, -1)), rgb(grey.expand(-1, 3, -1, -1))
    assert_same_features(ours, theirs, tolerance=1e-4)


@pytest.mark.parametrize("in_channels", [1, 4])
def test_a_file_of_rgb_weights_fills_an_encoder_for_other_images(in_channels: int, tmp_path: Path) -> None:
    torch.save(network("resnet18").state_dict(), tmp_path / "rgb.pth")
    encoder = ResNetEncoder("resnet18", weights=str(tmp_path / "rgb.pth"), in_channels=in_channels).eval()
    assert encoder.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * in_channels)
    grey = torch.rand(1, 1, 64, 64)
    rgb = network("resnet18")
    with torch.no_grad():
        theirs = rgb.relu(rgb.bn1(rgb.conv1(grey.expand(-1, 3, -1, -1))))
        assert_same_features(encoder(grey.expand(-1, in_channels, -1, -1))[:1], [theirs])


@pytest.mark.parametrize("in_channels", [1, 2, 6])
def test_encoders_without_weights_take_any_number_of_channels(in_channels: int) -> None:
    encoders: list[Encoder] = [
        ResNetEncoder("resnet18", in_channels=in_channels),
        MobileNetEncoder("mobilenet_v3_small", in_channels=in_channels),
        SwinEncoder("swin_t", in_channels=in_channels),
        UNetEncoder(in_channels=in_channels, base_channels=2),
        SegNetBasicEncoder(in_channels=in_channels, base_channels=2),
    ]
    for encoder in encoders:
        assert encoder.mean == encoder.std == (0.5,) * in_channels
        assert len(encoder.eval()(torch.rand(1, in_channels, 32, 32))) == len(encoder.channels)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_an_adapted_first_layer_keeps_its_response_to_grey_images(in_channels: int, bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=bias)
    adapted = adapt_first_conv(conv, in_channels, pretrained=True)
    grey = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(adapted(grey.expand(-1, in_channels, -1, -1)), conv(grey.expand(-1, 3, -1, -1)))


def test_a_first_layer_of_the_right_number_of_channels_is_kept() -> None:
    conv = nn.Conv2d(3, 5, 3)
    assert adapt_first_conv(conv, 3, pretrained=True) is conv


def test_a_first_layer_without_pretrained_weights_gets_kaimings_deviation() -> None:
    adapted = adapt_first_conv(nn.Conv2d(3, 64, 7, stride=2, bias=False), 12, pretrained=False)
    assert adapted.weight.std().item() == pytest.approx((2 / (64 * 7 * 7)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("pretrained_weights", [True, False])
def test_an_adapted_first_layer_stays_on_its_device_and_dtype(pretrained_weights: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, dtype=torch.float64, device="meta")
    adapted = adapt_first_conv(conv, 1, pretrained=pretrained_weights)
    assert adapted.weight.dtype == torch.float64
    assert adapted.weight.device.type == "meta"
