"""Soft Jaccard, the intersection over union of probabilities (Rahman & Wang, 2016), mean over the batch's classes."""

from collections.abc import Sequence

from torch import Tensor

from segtrain.losses.inputs import Mode
from segtrain.losses.tversky import TverskyLoss, tversky


def jaccard(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    smooth: float = 1.0,
    mode: Mode = "multiclass",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return 1 - mean over the present classes of (|P T| + smooth) / (|P| + |T| - |P T| + smooth).

    P are the probabilities and T the truth, summed over all pixels of all ranks' batches that are not void:
    `tversky` with alpha and beta of 1. Classes that no pixel has are left out; a batch of void gives zero with a
    gradient. The batches of an optimizer step have losses of their own, which count the same.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels; (N, C, H, W) of 0 and 1 too, if `mode` is multilabel.
        ignore_index: the label of void.
        smooth: pixels added to both sides of the fraction.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
        class_weights: (C,), for a weighted mean.
    """
    return tversky(
        logits,
        mask,
        ignore_index=ignore_index,
        alpha=1,
        beta=1,
        smooth=smooth,
        mode=mode,
        class_weights=class_weights,
    )


class JaccardLoss(TverskyLoss):
    """Module of `jaccard`.

    Args:
        ignore_index: the label of void.
        smooth: pixels added to both sides of the fraction.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
        class_weights: one weight a class, or None.

    Raises:
        ValueError: if a number is outside its range, or `mode` is not a mode.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        smooth: float = 1.0,
        mode: Mode = "multiclass",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            ignore_index=ignore_index, alpha=1, beta=1, smooth=smooth, mode=mode, class_weights=class_weights
        )
