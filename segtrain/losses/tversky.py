"""Tversky (Salehi et al., 2017, arXiv:1706.05721) and focal Tversky (Abraham & Khan, 2019, arXiv:1810.07842)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segtrain.losses.class_weights import weights_for, weights_tensor
from segtrain.losses.inputs import Mode, check_mode
from segtrain.losses.overlap import soft_overlap


def tversky(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    smooth: float = 1.0,
    mode: Mode = "multiclass",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over the present classes of (1 - index) ** (1 / gamma).

    The index is (TP + smooth) / (TP + alpha FP + beta FN + smooth) of the sums over all pixels of all ranks' batches
    that are not void. Classes that no pixel has are left out; a batch of void gives zero with a gradient. The batches
    of an optimizer step have losses of their own, which count the same: their sums over all classes are not known
    before each has been through the network.

    Deviations: the mean over the classes, where Abraham & Khan add them up; alpha and beta are as in Salehi et al.,
    exchanged in the other. Where gamma is not 1, the slope ends at an index of 1 - 1e-6, as it has no bound at 1.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels; (N, C, H, W) of 0 and 1 too, if `mode` is multilabel.
        ignore_index: the label of void.
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: above 1 for more weight on classes that are nearly right, as Abraham & Khan's 4/3.
        smooth: pixels added to both sides of the fraction.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
        class_weights: (C,), for a weighted mean.
    """
    both, predicted, true = soft_overlap(logits, mask, ignore_index=ignore_index, mode=mode)
    wrong = alpha * (predicted - both) + beta * (true - both)
    loss = 1 - (both + smooth) / (both + wrong + smooth).clamp(min=1e-12)
    if gamma != 1:
        loss = loss.clamp(min=1e-6) ** (1 / gamma)
    share = (true > 0).to(loss.dtype)
    if class_weights is not None:
        share = share * class_weights
    total = share.sum()
    return (loss * share).sum() / torch.where(total > 0, total, torch.ones_like(total))


class TverskyLoss(nn.Module):
    """Module of `tversky`.

    Args:
        ignore_index: the label of void.
        alpha: weight of false positives, 0 or more.
        beta: weight of false negatives, 0 or more.
        gamma: 1 for Tversky; focal Tversky above.
        smooth: pixels added to both sides of the fraction.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
        class_weights: one weight a class, or None.

    Raises:
        ValueError: if a number is outside its range, or `mode` is not a mode.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 1.0,
        mode: Mode = "multiclass",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
            if not value >= 0:
                raise ValueError(f"{name}: {value} is below 0")
        if not gamma > 0:
            raise ValueError(f"gamma: {gamma} is not above 0; 1 is Tversky, above 1 focal Tversky")
        self.ignore_index = ignore_index
        self.alpha, self.beta, self.gamma, self.smooth = alpha, beta, gamma, smooth
        self.mode = check_mode(mode)
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask.

        Raises:
            ValueError: if the mask or the class weights do not go with the logits.
        """
        return tversky(
            logits,
            mask,
            ignore_index=self.ignore_index,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            smooth=self.smooth,
            mode=self.mode,
            class_weights=weights_for(logits, self.class_weights),
        )
