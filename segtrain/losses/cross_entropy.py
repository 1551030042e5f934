"""Cross-entropy over pixels, with class weights and label smoothing."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.losses.class_weights import weights_for, weights_tensor
from segtrain.losses.inputs import full_precision, split_ignored
from segtrain.losses.reduction import mean_over_labels


def cross_entropy(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy of the pixels that are not void, as `torch.nn.CrossEntropyLoss`.

    With class weights it is divided by the sum of the weights of the pixels' labels. The mean is over all ranks and
    all batches of an optimizer step. A batch of void gives zero with a gradient, where torch gives NaN.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
        class_weights: (C,).
        label_smoothing: share of the target spread over all classes (Szegedy et al., 2016).
    """
    labels, valid = split_ignored(mask, ignore_index)
    logits = full_precision(logits)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = F.cross_entropy(
        logits,
        mask.long(),
        weight=weights,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",  # CUDA has no deterministic kernel that adds them up
    ).sum()
    share = valid if weights is None else weights[labels] * valid
    return mean_over_labels(total, mask, share=share, ignore_index=ignore_index, class_weights=weights)


class CrossEntropyLoss(nn.Module):
    """Module of `cross_entropy`.

    Args:
        ignore_index: the label of void.
        class_weights: one weight a class, or None.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: if `label_smoothing` or a weight is outside its range.
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
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W).

        Raises:
            ValueError: if there is not one class weight a channel of the logits.
        """
        return cross_entropy(
            logits,
            mask,
            ignore_index=self.ignore_index,
            class_weights=weights_for(logits, self.class_weights),
            label_smoothing=self.label_smoothing,
        )
