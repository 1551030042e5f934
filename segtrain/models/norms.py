"""Other norms in place of a built network's batch norm: group norm, constant or synchronised batch norm."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NORMS = ("batch", "group", "frozen")
GROUPS = 32  # Wu and He, 2018, arXiv:1803.08494, section 4

Replaced = list[tuple[nn.Module, str, nn.BatchNorm2d]]  # parent, name in it, what was there


def change_norms(model: nn.Module, norm: str) -> None:
    """Replace batch norms in place, keeping their weights and biases.

    Args:
        model: the network; "frozen" changes its attribute `encoder` alone.
        norm: "batch" changes nothing; "group" is group norm, independent of the batch (Wu and He, 2018); "frozen" keeps
            the encoder's pretrained statistics and weights as they are.

    Raises:
        ValueError: for another norm, or "frozen" without an encoder.
    """
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r} is not one of {', '.join(NORMS)}")
    if norm == "group":
        _replace(model, GroupNorm.like)
    elif norm == "frozen":
        encoder = getattr(model, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"norm: frozen is for a pretrained encoder, and {type(model).__name__} has none")
        _replace(encoder, FrozenBatchNorm2d.like)


def synchronise_norms(model: nn.Module) -> Replaced:
    """Replace batch norms by synchronised ones, in place, on the same parameters; return what `restore_norms` takes."""
    return _replace(model, SyncBatchNorm2d.like)


def restore_norms(replaced: Replaced) -> None:
    """Put the batch norms back, with the parameters and statistics that their places have now."""
    for parent, name, norm in replaced:
        now = getattr(parent, name)
        norm._parameters, norm._buffers = now._parameters, now._buffers
        norm.train(now.training)
        setattr(parent, name, norm)


@contextmanager
def fresh_statistics(training: Mapping[nn.Module, bool]) -> Iterator[list[_BatchNorm]]:
    """Let batch norms forget their statistics, and average those of all batches that the network sees inside, equally.

    Norms that are in evaluation while the network trains, as those of frozen stages, stay as they are, and are not
    among those that it gives.

    Args:
        training: all modules of the network, and whether each is in training mode while it trains; so they are inside.
    """
    modes = {module: module.training for module in training}
    _set_modes(training)
    norms = [m for m in training if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    try:
        yield norms
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        _set_modes(modes)


def _set_modes(modes: Mapping[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _replace(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> Replaced:
    replaced: Replaced = []
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            replaced.append((module, name, child))
            setattr(module, name, make(child).train(child.training))
        else:
            replaced += _replace(child, make)
    return replaced


def _after(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a batch norm of timm's contains beside the norm: its activation."""
    return nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()  # type: ignore[arg-type]


class GroupNorm(nn.GroupNorm):
    """Group norm and what follows it in the same module.

    Args:
        groups: that divide the channels.
        channels: of the input.
        eps: added to the variance.
        after: applied to the normalised features.
    """

    def __init__(self, groups: int, channels: int, *, eps: float, after: nn.Module) -> None:
        super().__init__(groups, channels, eps=eps)
        self.after = after

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "GroupNorm":
        """Return group norm with the weights of a batch norm, two channels a group or more."""
        channels = norm.num_features
        groups = math.gcd(GROUPS, channels // 2) if channels % 2 == 0 else 1
        group_norm = cls(groups, channels, eps=norm.eps, after=_after(norm))
        group_norm.weight, group_norm.bias = norm.weight, norm.bias
        return group_norm

    def forward(self, x: Tensor) -> Tensor:
        return self.after(super().forward(x))


class FrozenBatchNorm2d(torchvision.ops.FrozenBatchNorm2d):
    """Batch norm whose statistics and weights are constants, also under synchronised batch norm; in one kernel.

    Args:
        channels: of the input.
        eps: added to the variance.
        after: applied to the normalised features.
    """

    def __init__(self, channels: int, *, eps: float, after: nn.Module) -> None:
        super().__init__(channels, eps=eps)
        self.after = after

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "FrozenBatchNorm2d":
        """Return the norm as it is in evaluation, for good."""
        frozen = cls(norm.num_features, eps=norm.eps, after=_after(norm))
        for name in ("weight", "bias", "running_mean", "running_var"):
            setattr(frozen, name, getattr(norm, name).detach().clone())
        return frozen

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps))


class SyncBatchNorm2d(nn.SyncBatchNorm):
    """Batch norm over all processes and what follows it in the same module; torch's conversion forgets the latter.

    Args:
        channels: of the input.
        eps: added to the variance.
        momentum: of the running statistics.
        after: applied to the normalised features.
    """

    def __init__(self, channels: int, *, eps: float, momentum: float | None, after: nn.Module) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.after = after

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "SyncBatchNorm2d":
        """Return the norm over all processes, on the same parameters and statistics."""
        sync = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum, after=_after(norm))
        sync._parameters, sync._buffers = norm._parameters, norm._buffers
        return sync

    def forward(self, x: Tensor) -> Tensor:
        return self.after(super().forward(x))
