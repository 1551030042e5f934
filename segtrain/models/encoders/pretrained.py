"""Where an encoder's weights come from: torchvision's names or a file; first layers for other images than RGB."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from segtrain.models.weights import fit_weights, is_file_name, read_weights, spread_over_channels

log = logging.getLogger("segtrain")


def family(*prefixes: str) -> tuple[str, ...]:
    """Return the names of torchvision's classification networks that begin with one of these."""
    return tuple(sorted(name for name in list_models(module=torchvision.models) if name.startswith(prefixes)))


def build_torchvision(name: str, *, weights: str | None) -> Any:
    """Return torchvision's classification network of this name; weights from a file are left to `load_file`.

    Args:
        name: a name that `family` returned.
        weights: a torchvision weight name, a file, or None.

    Raises:
        ValueError: if torchvision has no such weights, or they cannot be downloaded.
    """
    if weights is not None and is_file_name(weights):
        weights = None
    known = [weight.name for weight in get_model_weights(name)]
    if weights is not None and weights not in known:
        raise ValueError(
            f"weights: {name} has no {weights!r} (accepts: {', '.join(known)}, a .pth, .safetensors or .ckpt file, "
            "or null for none)"
        )
    with downloading(f"{weights} of {name}"):
        return get_model(name, weights=weights)


@contextmanager
def downloading(what: str) -> Iterator[None]:
    """Turn a download of torchvision's that fails into a sentence.

    Raises:
        ValueError: if there is no network.
    """
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ValueError(
            f"weights: {what} is not on this machine and cannot be downloaded ({error}); "
            f"give weights null, or put the file into {torch.hub.get_dir()}/checkpoints"
        ) from error


def load_file(encoder: Encoder, path: str, *, in_channels: int, new: tuple[str, ...] = ()) -> None:
    """Fill an encoder from a file: torchvision's or the like, or the encoder in one of our checkpoints.

    A checkpoint brings the mean and deviation of its images too.

    Args:
        encoder: what is filled.
        path: a .pth, .pt, .bin, .safetensors or .ckpt file.
        in_channels: channels of the image.
        new: beginnings of names that no such file has, such as an added norm's.

    Raises:
        ValueError: if the file cannot be read, lacks one of the encoder's tensors or is of a larger network.
    """
    tensors, found = read_weights(Path(path).expanduser())
    fit = fit_weights(encoder, encoder.translate(tensors))
    lacking = [name for name in (*fit.other_shape, *fit.missing) if not name.startswith(new)]
    norms = [name for name in encoder.state_dict() if name.endswith((".running_mean", ".running_var"))]
    if lacking and sorted(lacking) == sorted(norms):
        raise ValueError(
            f"weights: {path} is of a run with norm=group, whose norms have no statistics; give norm=group and "
            f"init_from={path} in place of the encoder's weights"
        )
    if lacking:
        raise ValueError(
            f"weights: {path} lacks {len(lacking)} of the {fit.total} tensors of this encoder, or has them in another "
            f"shape ({', '.join(lacking[:3])}, ...); is it the same network?"
        )
    further = [name for name in fit.unused_inside(encoder.state_dict()) if not name.startswith(encoder.beyond)]
    if further:
        raise ValueError(
            f"weights: {path} has {len(further)} tensors that this encoder has no layers for "
            f"({', '.join(further[:3])}, ...); is it the same network?"
        )
    if found is not None:
        encoder.mean, encoder.std = (spread(values, in_channels) for values in found)
    log.info(f"encoder weights from {path}: {fit.sentence()}")


def statistics(weights: str | None, in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of a network's input: ImageNet's for pretrained weights, else 0.5 and 0.5."""
    if weights is None:
        return (0.5,) * in_channels, (0.5,) * in_channels
    return spread(IMAGENET_MEAN, in_channels), spread(IMAGENET_STD, in_channels)


def spread(values: tuple[float, ...], in_channels: int) -> tuple[float, ...]:
    """Return one value a channel: those of RGB, or their mean where the channels are others."""
    return values if in_channels == len(values) else (sum(values) / len(values),) * in_channels


def adapt_input(network: nn.Module, in_channels: int, *, pretrained: bool) -> None:
    """Replace the network's first convolution by one for another number of input channels."""
    name, conv = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels != in_channels:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, adapt_first_conv(conv, in_channels, pretrained=pretrained))


def adapt_first_conv(conv: nn.Conv2d, in_channels: int, *, pretrained: bool) -> nn.Conv2d:
    """Return the convolution for another number of input channels, on the same dtype and device.

    Pretrained weights are kept, see `segtrain.models.weights.spread_over_channels`.
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
            adapted.weight.copy_(spread_over_channels(conv.weight, in_channels))
            if conv.bias is not None and adapted.bias is not None:
                adapted.bias.copy_(conv.bias)
    else:
        nn.init.kaiming_normal_(adapted.weight, mode="fan_out", nonlinearity="relu")
    return adapted
