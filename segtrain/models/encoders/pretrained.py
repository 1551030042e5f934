"""torchvision's builders with weights by name, and first layers for images that are not RGB."""

from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD


def build_torchvision(name: str, *, weights: str | None) -> Any:
    """Return torchvision's classification network of this name.

    Raises:
        ValueError: if torchvision has no such weights, or they cannot be downloaded.
    """
    known = [weight.name for weight in get_model_weights(name)]
    if weights is not None and weights not in known:
        raise ValueError(f"weights: {name} has no {weights!r} (accepts: {', '.join(known)}, or null for none)")
    try:
        return get_model(name, weights=weights)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ValueError(
            f"weights: {weights} of {name} is not on this machine and cannot be downloaded ({error}); "
            f"give weights null, or put the file into {torch.hub.get_dir()}/checkpoints"
        ) from error


def statistics(weights: str | None, in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of a network's input: ImageNet's for pretrained weights, else 0.5 and 0.5.

    Channels beyond the third take the mean of the three.
    """
    if weights is None:
        return (0.5,) * in_channels, (0.5,) * in_channels

    def spread(values: tuple[float, ...]) -> tuple[float, ...]:
        average = sum(values) / len(values)
        return values if in_channels == 3 else (average,) * in_channels

    return spread(IMAGENET_MEAN), spread(IMAGENET_STD)


def adapt_first_conv(conv: nn.Conv2d, in_channels: int, *, pretrained: bool) -> nn.Conv2d:
    """Return the convolution for another number of input channels, on the same dtype and device.

    Pretrained weights are kept: the mean over RGB goes to every channel, scaled so that a grey image
    gives the activations it would have given as RGB.
    """
    if in_channels == conv.in_channels:
        return conv
    adapted = nn.Conv2d(
        in_channels,
        conv.out_channels,
        kernel_size=conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    if pretrained:
        with torch.no_grad():
            weight: Tensor = conv.weight.mean(dim=1, keepdim=True) * conv.in_channels / in_channels
            adapted.weight.copy_(weight.expand_as(adapted.weight))
            if conv.bias is not None and adapted.bias is not None:
                adapted.bias.copy_(conv.bias)
    else:
        nn.init.kaiming_normal_(adapted.weight, mode="fan_out", nonlinearity="relu")
    return adapted
