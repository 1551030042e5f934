"""Soft Dice (Milletari et al., 2016, arXiv:1606.04797), mean over the classes of the batch."""

from collections.abc import Sequence

from torch import Tensor

from segtrain.losses.inputs import Mode
from segtrain.losses.tversky import TverskyLoss, tversky


def dice(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    smooth: float = 1.0,
    mode: Mode = "multiclass",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return 1 - mean over the present classes of (2 |P T| + smooth) / (|P| + |T| + smooth).

    P are the probabilities and T the truth, summed over all pixels of all ranks' batches that are not void (the
    sums of |P|, not of the squares as in the paper): `tversky` with alpha and beta of 1/2 and half of `smooth`.
    Classes that no pixel has are left out; a batch of void gives zero with a gradient. The batches of an optimizer
    step have losses of their own, which count the same.

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
        alpha=0.5,
        beta=0.5,
        smooth=smooth / 2,
        mode=mode,
        class_weights=class_weights,
    )


class DiceLoss(TverskyLoss):
    """Module of `dice`.

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
            ignore_index=ignore_index,
            alpha=0.5,
            beta=0.5,
            smooth=smooth / 2,
            mode=mode,
            class_weights=class_weights,
        )
