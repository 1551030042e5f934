"""Sums and means over the pixels of all ranks, so that several processes train as one."""

import torch
import torch.distributed as dist
from torch import Tensor


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
