"""What the encoders' tests share: the lightest networks of every family, built once, and how features are compared."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from segtrain.models.encoders import (
    ConvNeXtEncoder,
    DenseNetEncoder,
    EfficientNetEncoder,
    EfficientNetLiteEncoder,
    Encoder,
    MobileNetEncoder,
    RegNetEncoder,
    ResNetEncoder,
    SegNetBasicEncoder,
    SwinEncoder,
    TimmEncoder,
    UNetEncoder,
    VGGEncoder,
    pretrained,
)

FAMILIES: tuple[type[Any], ...] = (
    *(ConvNeXtEncoder, DenseNetEncoder, EfficientNetEncoder, MobileNetEncoder),
    *(RegNetEncoder, ResNetEncoder, SwinEncoder, VGGEncoder),
)

# where every stride ends in torchvision's networks, read off the papers' tables
TAPS: dict[str, tuple[str, ...]] = {
    "vgg11": tuple(f"features.{pool}" for pool in (2, 5, 10, 15, 20)),
    "vgg11_bn": tuple(f"features.{pool}" for pool in (3, 7, 14, 21, 28)),
    "resnet18": ("relu", "layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("relu", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": tuple(f"features.{block}" for block in (1, 3, 6, 13, 18)),
    "mobilenet_v3_small": tuple(f"features.{block}" for block in (0, 1, 3, 8, 12)),
    "mobilenet_v3_large": tuple(f"features.{block}" for block in (1, 3, 6, 12, 16)),
    "efficientnet_b0": tuple(f"features.{stage}" for stage in (1, 2, 3, 5, 7)),
    "efficientnet_v2_s": tuple(f"features.{stage}" for stage in (1, 2, 3, 5, 6)),
    "convnext_tiny": tuple(f"features.{stage}" for stage in (1, 3, 5, 7)),
    "regnet_x_400mf": ("stem", *(f"trunk_output.block{stage}" for stage in (1, 2, 3, 4))),
    "regnet_y_400mf": ("stem", *(f"trunk_output.block{stage}" for stage in (1, 2, 3, 4))),
    "densenet121": ("features.relu0", *(f"features.denseblock{block}" for block in (1, 2, 3)), "features.norm5"),
    "swin_t": tuple(f"features.{stage}" for stage in (1, 3, 5, 7)),
    "swin_v2_t": tuple(f"features.{stage}" for stage in (1, 3, 5, 7)),
}
LIGHTEST = ("vgg11_bn", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf")
LIGHTEST = (*LIGHTEST, "densenet121", "swin_t")
OTHERS: dict[str, Callable[[], Encoder]] = {
    "unet": lambda: UNetEncoder(base_channels=3, depth=4, dropout=0),
    "segnet_basic": lambda: SegNetBasicEncoder(base_channels=4),
    "timm_resnet10t": lambda: TimmEncoder("resnet10t"),
    "timm_lcnet_050": lambda: TimmEncoder("lcnet_050"),
    "timm_convnext_atto": lambda: TimmEncoder("convnext_atto"),
    "timm_swin": lambda: TimmEncoder("swin_tiny_patch4_window7_224"),
    "timm_vit": lambda: TimmEncoder("vit_tiny_patch16_224"),
    "efficientnet_lite0": lambda: EfficientNetLiteEncoder("efficientnet_lite0"),
}


@functools.cache
def network(name: str) -> Any:
    """Return torchvision's network in eval mode with random weights and batch norms that differ from layer to layer.

    VGG's is without its classifier, nine tenths of the network.
    """
    torch.manual_seed(0)
    found = torchvision.models.get_model(name)
    if name.startswith("vgg"):
        found.classifier = nn.Identity()
    return randomised(found)


def randomised(module: nn.Module) -> Any:
    """Give batch norms and layer scales random values, and return the module in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if name.endswith("layer_scale"):  # ConvNeXt's begins at 1e-6, which hides what a block does
            parameter.data.uniform_(0.1, 0.5, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var, layer.bias.data, layer.running_mean):
                assert tensor is not None
                low = 0.5 if tensor is layer.running_var or tensor is layer.weight.data else -0.1
                tensor.uniform_(low, low + 1, generator=generator)
    return module.eval()


@pytest.fixture
def given_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision's builder give copies of `network(name)`, whatever weights are asked for."""
    monkeypatch.setattr(pretrained, "get_model", lambda name, **_: copy.deepcopy(network(name)))


def build(name: str, **arguments: Any) -> Any:
    """Return the encoder of this name, of torchvision's or of `OTHERS`."""
    if name in OTHERS:
        return OTHERS[name]()
    (family,) = (family for family in FAMILIES if name in family.names)
    return family(name, **arguments)


def assert_same_features(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Compare features up to a part of their largest value."""
    assert [f.shape for f in ours] == [f.shape for f in theirs]
    for our, their in zip(ours, theirs, strict=True):
        scale = their.abs().max()
        assert scale > 1e-3, "features that vanish say nothing"
        torch.testing.assert_close(our / scale, their / scale, rtol=0, atol=tolerance)
