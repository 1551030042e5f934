"""Soft Dice (Milletari et al., 2016, arXiv:1606.04797), mean over the classes of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.losses.reduction import split_ignored


def dice(logits: Tensor, mask: Tensor, *, ignore_index: int, smooth: float = 1.0) -> Tensor:
    """Return 1 - mean over the present classes of (2 |P T| + smooth) / (|P| + |T| + smooth).

    P are the softmax probabilities and T the one-hot labels, summed over all pixels of this rank's batch that
    are not void (the sums of |P|, not of the squares as in the paper). Classes that no pixel has are left out; a
    batch of void gives zero with a gradient.

    Args:
        logits: (N, C, H, W), any float type; computed in float32.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
        smooth: pixels added to both sides of the fraction.
    """
    num_classes = logits.shape[1]
    labels, valid = split_ignored(mask, ignore_index)
    probability = logits.float().softmax(dim=1) * valid.unsqueeze(1)  # (N, C, H, W)
    truth = F.one_hot(labels, num_classes).permute(0, 3, 1, 2) * valid.unsqueeze(1)
    overlap = (probability * truth).sum(dim=(0, 2, 3))  # (C,)
    truth_size = truth.sum(dim=(0, 2, 3)).to(overlap.dtype)
    score = (2 * overlap + smooth) / (probability.sum(dim=(0, 2, 3)) + truth_size + smooth).clamp(min=1e-12)
    present = (truth_size > 0).to(overlap.dtype)
    return ((1 - score) * present).sum() / torch.clamp(present.sum(), min=1)


class DiceLoss(nn.Module):
    """Module of `dice`.

    Args:
        ignore_index: the label of void.
        smooth: pixels added to both sides of the fraction.
    """

    def __init__(self, *, ignore_index: int, smooth: float = 1.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W)."""
        return dice(logits, mask, ignore_index=self.ignore_index, smooth=self.smooth)
