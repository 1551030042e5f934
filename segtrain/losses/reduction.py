"""Sums and means over the pixels of all ranks and all batches of an optimizer step, so that parts train as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class _Step(NamedTuple):
    """What is known of an optimizer step while the loss of one of its batches is computed."""

    mask: Tensor
    labels: Tensor
    parts: int


_STEP: ContextVar[_Step | None] = ContextVar("step", default=None)


@contextmanager
def part_of_step(mask: Tensor, *, labels: Tensor, parts: int) -> Iterator[None]:
    """Make known that the losses inside are of one batch of an optimizer step that has several.

    Means over the labelled pixels of this mask are then divided by those of all batches of the step: the mean of the
    batches' gradients is the gradient of one batch of all their images, also when void is spread unevenly.

    Args:
        mask: (N, H, W), the very tensor that the losses are given; what they make of another one is a mean of its own.
        labels: int64 (C,), how many pixels have each class in this rank's batches of the step together.
        parts: how many batches.
    """
    token = _STEP.set(_Step(mask, labels, parts))
    try:
        yield
    finally:
        _STEP.reset(token)


def _ranks() -> int:
    """Return how many ranks train together; 1 in evaluation, where they may see different numbers of batches."""
    if dist.is_available() and dist.is_initialized() and torch.is_grad_enabled():
        return dist.get_world_size()
    return 1


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by the count of all ranks, so that DDP's averaged gradients are those of one process.

    DDP divides the summed gradients by the number of ranks; dividing each rank's sum by the mean count of a rank
    undoes that exactly, also when void pixels are spread unevenly. A count of zero gives zero with a gradient.

    Args:
        total: sum over this rank's pixels.
        count: how many they are, or the sum of their weights.
    """
    count = count.detach().to(total.dtype)
    if (ranks := _ranks()) > 1:
        count = count.clone()
        dist.all_reduce(count)
        count = count / ranks
    return total / torch.where(count > 0, count, torch.ones_like(count))


def mean_over_labels(
    total: Tensor, mask: Tensor, *, share: Tensor, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """Divide a sum over labelled pixels by their shares on all ranks, and in all batches of a step (`part_of_step`).

    Args:
        total: sum over this batch's pixels.
        mask: (N, H, W) labels, as the loss was given it.
        share: (N, H, W), the weight of each pixel's class, or 1; 0 for void.
        ignore_index: the label of void.
        class_weights: (C,), those that `share` has; None for 1.
    """
    step = _STEP.get()
    if step is None or step.mask is not mask:
        return mean_over_ranks(total, share.sum())
    pixels = step.labels.to(total.dtype)
    if class_weights is not None:
        pixels = pixels * class_weights
    if 0 <= ignore_index < len(pixels):  # a class that this loss alone leaves out
        pixels = torch.cat([pixels[:ignore_index], pixels[ignore_index + 1 :]])
    return mean_over_ranks(total, pixels.sum() / step.parts)


def weighted_mean(values: Tensor, keep: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of the kept values over all ranks, weighted; zero with a gradient if there are none.

    Args:
        values: one a pixel, or one a pixel and class; finite.
        keep: boolean, of a shape that broadcasts to that of `values`.
        weights: of a shape that broadcasts too.
    """
    share = keep.to(values.dtype) if weights is None else keep * weights
    return mean_over_ranks((values * share).sum(), share.expand_as(values).sum())


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Return the sums of all ranks, with a gradient.

    Every rank goes on to compute the same loss from them. DDP divides the gradients by the number of ranks, so each
    rank's is multiplied by it: their average is then the gradient of one process on the joined batch, whatever the
    loss does with the sums.

    Args:
        sums: of this rank's pixels.
    """
    if (ranks := _ranks()) == 1:
        return sums
    joined = sums.detach().clone()
    dist.all_reduce(joined)
    return joined + ranks * (sums - sums.detach())  # zero, with the gradient
