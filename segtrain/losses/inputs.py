"""What all losses do with their inputs: precision, the one ignore path, and the truth of each class."""

from typing import Literal, cast, get_args

import torch
from torch import Tensor

Mode = Literal["multiclass", "multilabel"]


def full_precision(logits: Tensor) -> Tensor:
    """Return float32 logits, or float64 ones as they are; losses are not computed in the few bits of autocast."""
    return logits if logits.dtype == torch.float64 else logits.float()


def split_ignored(mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return (labels, valid): void pixels have label 0 and are False in `valid`.

    Args:
        mask: (N, H, W) integer labels.
        ignore_index: the label of void.
    """
    valid = mask != ignore_index
    return mask.long().masked_fill(~valid, 0), valid


def class_truth(mask: Tensor, *, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return (truth, valid): which pixels each class has, and which are not void.

    Args:
        mask: (N, H, W) labels, or (N, C, H, W) with 1 where a pixel has the class, 0 where not.
        num_classes: C.
        ignore_index: the label of void, in a mask of (N, C, H, W) of a pixel for one class.

    Returns:
        boolean (N, C, H, W), False where void, and boolean (N, 1, H, W) or (N, C, H, W).
    """
    if mask.dim() == 4:
        valid = mask != ignore_index
        return (mask == 1) & valid, valid
    mask = mask.unsqueeze(1)
    valid = mask != ignore_index
    classes = torch.arange(num_classes, device=mask.device).view(1, num_classes, 1, 1)
    return (mask == classes) & valid, valid


def check_mask(logits: Tensor, mask: Tensor, mode: Mode) -> None:
    """Refuse a mask that does not go with the logits and the mode.

    Raises:
        ValueError: if its shape is not one that `mode` takes.
    """
    n, classes, height, width = logits.shape
    labels, one_each = (n, height, width), (n, classes, height, width)
    shape = tuple(mask.shape)
    if mode == "multilabel" and classes == 1 and shape == labels:
        raise ValueError(f"mask: labels {shape} for one class; give 0 and 1 as {one_each}")
    if shape != labels and not (mode == "multilabel" and shape == one_each):
        wanted = labels if mode == "multiclass" else f"{labels} or {one_each}"
        raise ValueError(f"mask: its shape is {shape}; mode {mode} takes {wanted} for these logits")


def check_mode(mode: str) -> Mode:
    """Return the mode.

    Raises:
        ValueError: if it is neither multiclass nor multilabel.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode: {mode!r} is not multiclass (softmax) or multilabel (a sigmoid a class)")
    return cast(Mode, mode)
