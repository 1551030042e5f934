"""Weights from a file: what of it fits a network, under which names, and what does not."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segtrain.checkpoint import read_checkpoint
from segtrain.errors import requirement

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")
Weights = dict[str, Tensor]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of the input


class WeightFile(NamedTuple):
    """The tensors of a file by name, and the (mean, std) that its images had, if the file says so."""

    tensors: Weights
    statistics: Statistics | None = None


def is_file_name(text: str) -> bool:
    """Say whether a value of `weights` names a file, not a set of published weights."""
    return "/" in text or text.endswith(SUFFIXES)


def read_weights(path: Path) -> WeightFile:
    """Return what is in a .pth, .pt, .bin, .safetensors or .ckpt file; nothing in it is executed.

    Raises:
        ValueError: if the file is missing, cannot be read or holds no tensors; `safetensors` is missing.
    """
    if not path.is_file():
        raise ValueError(f"weights: {path} is not a file")
    if path.suffix == ".safetensors":
        return WeightFile(_read_safetensors(path))
    if path.suffix == ".ckpt":
        return _from_checkpoint(read_checkpoint(path)["state_dict"])
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in many ways
        raise ValueError(
            f"weights: {path} is damaged, or holds more than tensors ({type(error).__name__}); save a state_dict()"
        ) from error
    for key in ("state_dict", "model_state_dict", "model", "state_dict_ema"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise ValueError(f"weights: {path} holds no tensors by name; save a state_dict()")
    return WeightFile(tensors)


def _from_checkpoint(state: Weights) -> WeightFile:
    mean, std = (tuple(state[f"normalize.{name}"].flatten().tolist()) for name in ("mean", "std"))
    tensors = {name.removeprefix("model."): state[name] for name in state if name.startswith("model.")}
    return WeightFile(tensors, (mean, std))


def _read_safetensors(path: Path) -> Weights:
    with requirement("safetensors", "safetensors>=0.4"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {path} is no safetensors file, or is damaged ({error})") from error


class Fit(NamedTuple):
    """Which tensors of a network a file has filled."""

    total: int
    loaded: list[str]
    adapted: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]
    prefix: str  # of the file's names, not of the network's

    def unused_inside(self, own: Iterable[str]) -> list[str]:
        """Return what is unused though it has the first name of a tensor of `own`: layers of a larger network."""
        firsts = {name.partition(".")[0] for name in own}
        names = [name.removeprefix(self.prefix) for name in self.unused if name.startswith(self.prefix)]
        return [name for name in names if name.partition(".")[0] in firsts]

    def sentence(self) -> str:
        """Return what was kept, what is new and what of the file was left."""
        parts = [f"{len(self.loaded)} of {self.total} tensors"]
        parts += [f"{text}: {_some(names)}" for text, names in self._groups() if names]
        return "; ".join(parts)

    def _groups(self) -> Iterator[tuple[str, list[str]]]:
        yield "adapted to the image's channels", self.adapted
        yield "new, as the file has another shape", self.other_shape
        yield "new, as the file does not have them", self.missing
        yield "not used", self.unused


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def fit_weights(module: nn.Module, weights: Weights) -> Fit:
    """Copy every tensor that fits by name and shape into the module; the first convolution is adapted.

    The names may carry a prefix, such as `encoder.` or `module.`.

    Raises:
        ValueError: if no tensor fits.
    """
    own = module.state_dict()
    prefix = _prefix(own, weights)
    theirs = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    unused = [name for name in weights if not name.startswith(prefix) or name.removeprefix(prefix) not in own]
    first = next((f"{name}.weight" for name, m in module.named_modules() if isinstance(m, nn.Conv2d)), "")
    filled: Weights = {}
    adapted, other_shape = [], []
    for name in own.keys() & theirs.keys():
        tensor = theirs[name]
        if name == first and tensor.ndim == 4 and tensor.shape[1] != own[name].shape[1]:
            tensor = spread_over_channels(tensor, own[name].shape[1])
            adapted += [name] * (tensor.shape == own[name].shape)
        if tensor.shape == own[name].shape:
            filled[name] = tensor
        else:
            other_shape.append(name)
    if not any(tensor.ndim for tensor in filled.values()):
        raise ValueError(
            f"weights: no tensor of the file fits {type(module).__name__} by name and shape "
            f"(the file has {_some(list(weights))}; wanted are {_some(list(own))})"
        )
    module.load_state_dict(filled, strict=False)
    # a counter that old files lack; nothing is lost without it
    missing = [name for name in own if name not in theirs and not name.endswith("num_batches_tracked")]
    return Fit(
        len(own) - sum(n.endswith("num_batches_tracked") and n not in theirs for n in own),
        list(filled),
        adapted,
        sorted(other_shape),
        missing,
        unused,
        prefix,
    )


def _prefix(own: Weights, weights: Weights) -> str:
    """Return the beginning of the file's names under which most of the module's own are found."""
    found = {""}
    for name in list(own)[:3]:
        found |= {theirs.removesuffix(name) for theirs in weights if theirs.endswith(f".{name}")}
    return max(sorted(found), key=lambda prefix: sum(prefix + name in weights for name in own))


def spread_over_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Return a first convolution's weights (out, in, k, k) for another number of input channels.

    Fewer channels get the mean over the old ones. Of more, the first keep their own weights (RGB before infrared) and
    the rest get the mean. All are scaled so that a grey image gives the activations that it would have given before.
    """
    old = weight.shape[1]
    mean = weight.mean(dim=1, keepdim=True)
    kept = weight if in_channels > old else weight[:, :0]
    new = mean.expand(-1, in_channels - kept.shape[1], -1, -1)
    return torch.cat([kept, new], dim=1) * (old / in_channels)
