"""Every network on a light encoder of every family, and what the tests of several networks share."""

import copy
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segtrain.models import FCN, DeepLabV3, DeepLabV3Plus, DilatedFCN, PSPNet, SegNet, UNet
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
)

# one a family, by output stride
ENCODERS: dict[str, Callable[[int], Encoder]] = {
    "unet": lambda stride: UNetEncoder(base_channels=4, depth=stride.bit_length(), dropout=0.0),
    "segnet_basic": lambda _: SegNetBasicEncoder(base_channels=8),
    "vgg11_bn": lambda stride: VGGEncoder("vgg11_bn", output_stride=stride),
    "resnet18": lambda stride: ResNetEncoder("resnet18", output_stride=stride),
    "mobilenet_v3_small": lambda stride: MobileNetEncoder("mobilenet_v3_small", output_stride=stride),
    "efficientnet_b0": lambda stride: EfficientNetEncoder("efficientnet_b0", output_stride=stride),
    "efficientnet_lite0": lambda stride: EfficientNetLiteEncoder("efficientnet_lite0", output_stride=stride),
    "regnet_y_400mf": lambda stride: RegNetEncoder("regnet_y_400mf", output_stride=stride),
    "densenet121": lambda stride: DenseNetEncoder("densenet121", output_stride=stride),
    "convnext_tiny": lambda stride: ConvNeXtEncoder("convnext_tiny", output_stride=stride),
    "swin_t": lambda stride: SwinEncoder("swin_t", output_stride=stride),
    "lcnet_050": lambda stride: TimmEncoder("lcnet_050", output_stride=stride),
}
# the paper's output stride, and a narrow network
MODELS: dict[str, tuple[int, Callable[..., nn.Module]]] = {
    "fcn": (32, FCN),
    "dilated_fcn": (8, DilatedFCN),
    "unet": (32, functools.partial(UNet, decoder_channels=(32, 24, 16, 12, 8))),
    "segnet": (32, SegNet),
    "pspnet": (8, functools.partial(PSPNet, channels=16)),
    "deeplabv3": (16, functools.partial(DeepLabV3, channels=16)),
    "deeplabv3plus": (16, functools.partial(DeepLabV3Plus, channels=16, skip_channels=8)),
}
WITH_STRIDE = ("dilated_fcn", "pspnet", "deeplabv3", "deeplabv3plus")  # constructors that are told the output stride
POOLING = ("vgg11_bn", "segnet_basic")
MATRIX = [
    (model, encoder)
    for model in MODELS
    for encoder in ENCODERS
    if (encoder in POOLING if model == "segnet" else encoder != "segnet_basic")
]
# one each, for what is slow
LIGHT = {
    "fcn": "vgg11_bn",
    "dilated_fcn": "unet",
    "unet": "unet",
    "segnet": "segnet_basic",
    "pspnet": "resnet18",
    "deeplabv3": "unet",
    "deeplabv3plus": "unet",
}
PAIRS = [*LIGHT.items()]


@functools.cache
def _encoder(name: str, output_stride: int) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[name](output_stride)


def encoder_of(name: str, output_stride: int) -> Any:
    """Return a copy of an encoder that is built once: VGG takes a second."""
    return copy.deepcopy(_encoder(name, output_stride))


def build(model: str, encoder: str, *, num_classes: int = 3, **options: Any) -> Any:
    """Return a network with settled norms, in evaluation mode, whose logits depend on the image."""
    stride, make = MODELS[model]
    stride = 32 if encoder == "swin_t" else stride
    net = encoder_of(encoder, stride)
    torch.manual_seed(0)
    options = {"output_stride": stride} | options if model in WITH_STRIDE else options
    net = make(num_classes, encoder=net, **options)
    if isinstance(net, FCN):
        for scorer in (net.score, *net.skip_scores):  # they begin at zero
            nn.init.normal_(scorer.weight, std=0.1)
    return settle(net)


def settle(model: nn.Module) -> nn.Module:
    """Give the norms the statistics of some noise, so that activations neither vanish nor explode; evaluation mode."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def shake(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give every norm its own statistics, weights and biases: those of a new network hide what is swapped."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                *((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2.0)),
                *((module.weight, 0.5, 1.5), (module.bias, -0.2, 0.2)),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=random)
    return model.eval()


def only_heads_train(model: nn.Module) -> nn.Module:
    """Return the network in training mode but for its layers: the values of evaluation, with auxiliary logits."""
    model.eval().training = True
    if isinstance(auxiliary := getattr(model, "auxiliary", None), nn.Module):
        auxiliary.training = True
    return model


def train_without_chance(model: nn.Module) -> nn.Module:
    """Return the network in training mode, but with nothing left out at random."""
    model.train()
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "StochasticDepth", "DropPath"):
            module.eval()
    return model


def rename(weights: Mapping[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    """Return the tensors with the first regular expression that matches each name replaced."""
    renamed = {}
    for name, tensor in weights.items():
        pattern, ours = next(((p, o) for p, o in pairs if re.search(p, name)), ("^", ""))
        renamed[re.sub(pattern, ours, name)] = tensor
    return renamed


def assert_same(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Compare tensors, or dicts of them, relative to the largest value."""
    if isinstance(expected, Mapping):
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_same(actual[name], expected[name], tolerance)
        return
    assert actual.shape == expected.shape
    scale = expected.abs().max()
    assert expected.std() > 1e-3 * scale, "what is compared is constant"
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


@contextmanager
def recorded(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the modules' outputs, in the order in which they come."""
    outputs: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _, __, output: outputs.append(output)) for module in modules]
    yield outputs
    for handle in handles:
        handle.remove()


def blobs(count: int = 2, size: int = 64, *, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Return noisy images and masks of rectangles whose colour says their class; edges are multiples of 8 pixels."""
    random = torch.Generator().manual_seed(0)
    mask = torch.zeros(count, size, size, dtype=torch.long)
    for image in mask:
        for label in range(1, num_classes):
            top, left = (8 * torch.randint(0, size // 32, (2,), generator=random)).tolist()
            left += (label - 1) * size // 2
            image[top : top + size // 2, left : left + size // 4] = label
    colours = torch.eye(3)[torch.arange(num_classes) % 3] * 2 - 1
    return colours[mask].permute(0, 3, 1, 2) + 0.2 * torch.randn(count, 3, size, size, generator=random), mask


def learn_by_heart(model: nn.Module, *, steps: int = 100, lr: float = 3e-3, goal: float = 0.99) -> float:
    """Train on one batch of blobs until it is known; return the accuracy in training mode."""
    image, mask = blobs()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    accuracy = 0.0
    for _ in range(steps):
        logits = model(image)
        logits = logits["out"] if isinstance(logits, dict) else logits
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, mask).backward()
        optimizer.step()
        accuracy = (logits.argmax(dim=1) == mask).float().mean().item()
        if accuracy > goal:
            break
    return accuracy


def without_gradient(model: nn.Module) -> list[str]:
    """Return the names of the parameters that no gradient has reached."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
