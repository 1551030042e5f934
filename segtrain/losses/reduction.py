"""The one ignore path and the one mean of all losses."""

import torch
import torch.distributed as dist
from torch import Tensor


def split_ignored(mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return (labels, valid): void pixels have label 0 and are False in `valid`.

    Args:
        mask: (N, H, W) integer labels.
        ignore_index: the label of void.
    """
    valid = mask != ignore_index
    return mask.long().masked_fill(~valid, 0), valid


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by the count of all ranks, so that DDP's averaged gradients are those of one process.

    DDP divides the summed gradients by the number of ranks; dividing each rank's sum by the mean count of a rank
    undoes that exactly, also when void pixels are spread unevenly. A count of zero gives zero with a gradient.

    Args:
        total: sum over this rank's pixels.
        count: how many they are, or the sum of their weights.
    """
    count = count.detach().to(total.dtype)
    if dist.is_available() and dist.is_initialized() and torch.is_grad_enabled():
        count = count.clone()
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / torch.where(count > 0, count, torch.ones_like(count))
