"""May torch's fused kernels do the step?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam

DEVICES = ("cpu", "cuda")


def may_fuse(
    optimizer: Any, settings: dict[str, Any], parameters: Sequence[nn.Parameter], *, clips: bool, later: bool = False
) -> bool:
    """Say whether to ask for the fused step: torch has it, and the user asks for nothing else.

    On a CPU the step of AdamW without it reads a counter back for every parameter.

    Args:
        optimizer: the class or function that makes it.
        settings: its arguments, as the config gives them.
        parameters: what it will update.
        clips: gradients are clipped under mixed precision, which Lightning does not do for fused optimizers.
        later: some parameters get their first gradient in a later step than others; torch's fused SGD then fails, as
            it makes the momenta of all of them or none.
    """
    if clips or not isinstance(optimizer, type) or not issubclass(optimizer, (Adam, SGD)):
        return False
    if later and issubclass(optimizer, SGD):
        return False
    if settings.get("fused", "auto") != "auto" or settings.get("foreach") or settings.get("differentiable"):
        return False
    if issubclass(optimizer, SGD) and any(isinstance(p, DTensor) for p in parameters):
        return False  # torch has Adam's fused step for weights that are shared out among devices, and not SGD's
    return all(p.device.type in DEVICES and p.dtype in (torch.float32, torch.float64) for p in parameters)
