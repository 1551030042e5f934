"""A weighted sum of losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum of losses of the same logits and mask, each times its weight.

    Args:
        losses: modules called with logits (N, C, H, W) and mask (N, H, W).
        weights: one for each.

    Raises:
        ValueError: if there is not one weight a loss.
    """

    def __init__(self, *, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights) or not losses:
            raise ValueError(f"weights: {len(weights)} given for {len(losses)} losses; give one each")
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar sum."""
        parts = [weight * loss(logits, mask) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(parts).sum()
