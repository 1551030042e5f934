"""Are the encoders' features torchvision's own, for the same weights, at the strides and channels that they claim?"""

from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.feature_extraction import create_feature_extractor

from segtrain.models.encoders import Encoder, MobileNetEncoder, ResNetEncoder, UNetEncoder, pretrained
from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from segtrain.models.encoders.pretrained import adapt_first_conv
from segtrain.models.encoders.resnet import NAMES as RESNETS

# the last block of every stride in torchvision's `features`, read off the papers' tables
MOBILENET_ENDS = {
    "mobilenet_v2": (1, 3, 6, 13, 18),
    "mobilenet_v3_large": (1, 3, 6, 12, 16),
    "mobilenet_v3_small": (0, 1, 3, 8, 12),
}


def copy_weights(encoder: Encoder, network: nn.Module) -> None:
    """Give the encoder the network's weights, tensor by tensor in their order; shapes must agree."""
    own = encoder.state_dict()
    values = list(network.state_dict().values())[: len(own)]
    assert [value.shape for value in values] == [value.shape for value in own.values()]
    encoder.load_state_dict(dict(zip(own, values, strict=True)))


def randomised(network: nn.Module) -> Any:
    """Return the network with batch-norm statistics that differ from layer to layer, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var, module.bias.data, module.running_mean):
                assert tensor is not None
                low = 0.5 if tensor is module.running_var or tensor is module.weight.data else -0.1
                tensor.uniform_(low, low + 1, generator=generator)
    return network.eval()


def assert_same_features(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert [f.shape for f in ours] == [f.shape for f in theirs]
    for our, their in zip(ours, theirs, strict=True):
        scale = their.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(our / scale, their / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_resnet_features_are_torchvisions(name: str) -> None:
    network = randomised(torchvision.models.get_model(name))
    encoder = ResNetEncoder(name).eval()
    copy_weights(encoder, network)
    image = torch.rand(1, 3, 65, 96)
    layers = {layer: layer for layer in ("relu", "layer1", "layer2", "layer3", "layer4")}
    with torch.no_grad():
        theirs = IntermediateLayerGetter(network, return_layers=layers)(image)
        assert_same_features(encoder(image), list(theirs.values()))


@pytest.mark.parametrize("name", MOBILENET_ENDS)
def test_mobilenet_features_are_torchvisions(name: str) -> None:
    network = randomised(torchvision.models.get_model(name))
    encoder = MobileNetEncoder(name).eval()
    copy_weights(encoder, network.features)
    image = torch.rand(1, 3, 65, 96)
    extractor = create_feature_extractor(network, [f"features.{end}" for end in MOBILENET_ENDS[name]])
    with torch.no_grad():
        assert_same_features(encoder(image), list(extractor(image).values()))


@pytest.mark.parametrize(("output_stride", "replaced"), [(16, [False, False, True]), (8, [False, True, True])])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_a_dilated_resnet_is_torchvisions_with_stride_replaced_by_dilation(
    name: str, output_stride: int, replaced: list[bool]
) -> None:
    network = randomised(torchvision.models.get_model(name, replace_stride_with_dilation=replaced))
    encoder = ResNetEncoder(name, output_stride=output_stride).eval()
    copy_weights(encoder, network)
    image = torch.rand(1, 3, 64, 64)
    layers = {layer: layer for layer in ("relu", "layer1", "layer2", "layer3", "layer4")}
    with torch.no_grad():
        theirs = IntermediateLayerGetter(network, return_layers=layers)(image)
        assert_same_features(encoder(image), list(theirs.values()))


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_a_dilated_mobilenet_is_torchvisions_dilated_one(name: str) -> None:
    network = randomised(torchvision.models.get_model(name, dilated=True))
    encoder = MobileNetEncoder(name, output_stride=16).eval()
    copy_weights(encoder, network.features)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image)[-1:], [network.features(image)])


def builders() -> list[Any]:
    """Return every encoder at every output stride that it has."""
    found = [pytest.param(lambda: UNetEncoder(in_channels=1, base_channels=3, depth=4), 1, id="unet")]
    for family, names in ((ResNetEncoder, RESNETS), (MobileNetEncoder, tuple(MOBILENET_ENDS))):
        for name in names:
            for stride in (8, 16, 32):
                if name in ("resnet18", "resnet50", *MOBILENET_ENDS) or stride == 32:

                    def build(family: Any = family, name: str = name, stride: int = stride) -> Encoder:
                        return family(name, output_stride=stride)

                    found.append(pytest.param(build, 3, id=f"{name}, {stride}"))
    return found


@pytest.mark.parametrize(("build", "in_channels"), builders())
def test_strides_and_channels_are_those_of_the_features(build: Any, in_channels: int) -> None:
    with torch.device("meta"):
        encoder = build()
        features = encoder.eval()(torch.rand(1, in_channels, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == expected
    assert list(encoder.strides) == sorted(encoder.strides)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_dilation_changes_no_weight_and_no_shape_of_one(name: str, output_stride: int) -> None:
    family = ResNetEncoder if name == "resnet18" else MobileNetEncoder
    plain = {key: value.shape for key, value in family(name).state_dict().items()}
    dilated = {key: value.shape for key, value in family(name, output_stride=output_stride).state_dict().items()}
    assert plain == dilated


def test_the_deepest_feature_of_a_stride_is_found() -> None:
    encoder = ResNetEncoder("resnet18", output_stride=8)
    assert encoder.strides == (2, 4, 8, 8, 8)
    assert encoder.feature_at(4) == 1
    assert encoder.feature_at(8) == 4
    with pytest.raises(ValueError, match="ResNetEncoder has no feature of stride 16"):
        encoder.feature_at(16)


@pytest.mark.parametrize(
    ("family", "arguments", "sentence"),
    [
        (ResNetEncoder, {"name": "resnet19"}, r"no ResNet is called 'resnet19' \(accepts: resnet18, "),
        (MobileNetEncoder, {"name": "resnet18"}, r"no MobileNet is called 'resnet18' \(accepts: mobilenet_v2"),
        (ResNetEncoder, {"output_stride": 4}, r"output_stride: 4 is not one of \[8, 16, 32\]"),
        (MobileNetEncoder, {"output_stride": 64}, r"output_stride: 64 is not one of \[8, 16, 32\]"),
        (ResNetEncoder, {"weights": "IMAGENET"}, r"weights: resnet50 has no 'IMAGENET' \(accepts: IMAGENET1K_V1, "),
        (MobileNetEncoder, {"weights": "x"}, r"weights: mobilenet_v3_large has no 'x' .*or null for none"),
        (UNetEncoder, {"depth": 1}, "depth: 1 leaves nothing to connect"),
    ],
)
def test_what_torchvision_does_not_have_is_refused_with_what_it_has(
    family: Any, arguments: dict[str, Any], sentence: str
) -> None:
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


@pytest.fixture
def downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision's builder give random weights where pretrained ones are asked for."""
    original = pretrained.get_model

    def get_model(name: str, *, weights: str | None) -> nn.Module:
        torch.manual_seed(0)
        return original(name, weights=None)

    monkeypatch.setattr(pretrained, "get_model", get_model)


@pytest.mark.usefixtures("downloaded")
@pytest.mark.parametrize(("family", "name"), [(ResNetEncoder, "resnet18"), (MobileNetEncoder, "mobilenet_v3_small")])
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_pretrained_encoders_expect_imagenets_statistics_and_answer_to_grey_as_to_rgb(
    family: Any, name: str, in_channels: int
) -> None:
    rgb = family(name, weights="IMAGENET1K_V1").eval()
    other = family(name, weights="IMAGENET1K_V1", in_channels=in_channels).eval()
    assert len(other.mean) == len(other.std) == in_channels
    assert sum(other.mean) / in_channels == pytest.approx(sum(IMAGENET_MEAN) / 3)
    assert sum(other.std) / in_channels == pytest.approx(sum(IMAGENET_STD) / 3)
    assert (rgb.mean, rgb.std) == (IMAGENET_MEAN, IMAGENET_STD)
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        ours, theirs = other(grey.expand(-1, in_channels, -1, -1)), rgb(grey.expand(-1, 3, -1, -1))
    assert_same_features(ours, theirs)


@pytest.mark.parametrize("in_channels", [1, 2, 6])
def test_encoders_without_weights_take_any_number_of_channels(in_channels: int) -> None:
    for encoder in (
        ResNetEncoder("resnet18", in_channels=in_channels),
        MobileNetEncoder("mobilenet_v3_small", in_channels=in_channels),
        UNetEncoder(in_channels=in_channels, base_channels=2),
    ):
        assert encoder.mean == encoder.std == (0.5,) * in_channels
        assert len(encoder.eval()(torch.rand(1, in_channels, 32, 32))) == 5


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


def test_the_unet_encoder_rounds_odd_sizes_up() -> None:
    features = UNetEncoder(base_channels=2, depth=4).eval()(torch.rand(1, 3, 97, 131))
    assert [tuple(feature.shape[2:]) for feature in features] == [(97, 131), (49, 66), (25, 33), (13, 17)]
