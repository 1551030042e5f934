"""Cross-entropy over pixels, with class weights and label smoothing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.losses.reduction import mean_over_ranks, split_ignored


def cross_entropy(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy of the pixels that are not void, as `torch.nn.CrossEntropyLoss`.

    With class weights it is divided by the sum of the weights of the pixels' labels. A batch of void gives zero
    with a gradient, where torch gives NaN.

    Args:
        logits: (N, C, H, W), any float type; computed in float32.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
        class_weights: (C,).
        label_smoothing: share of the target spread over all classes (Szegedy et al., 2016).
    """
    labels, valid = split_ignored(mask, ignore_index)
    total = F.cross_entropy(
        logits.float(),
        mask.long(),
        weight=class_weights,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    count = valid.sum() if class_weights is None else (class_weights[labels] * valid).sum()
    return mean_over_ranks(total, count)


class CrossEntropyLoss(nn.Module):
    """Module of `cross_entropy`.

    Args:
        ignore_index: the label of void.
        class_weights: one weight a class, or None.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: if `label_smoothing` is outside its range.
    """

    class_weights: Tensor | None

    def __init__(
        self, *, ignore_index: int, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing} is not in [0, 1)")
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W).

        Raises:
            ValueError: if there is not one class weight a channel of the logits.
        """
        weights = self.class_weights
        if weights is not None and len(weights) != logits.shape[1]:
            raise ValueError(f"class_weights: {len(weights)} given for {logits.shape[1]} classes")
        return cross_entropy(
            logits,
            mask,
            ignore_index=self.ignore_index,
            class_weights=weights,
            label_smoothing=self.label_smoothing,
        )
