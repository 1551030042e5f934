"""Focal loss (Lin et al., 2017, arXiv:1708.02002): cross-entropy with less weight on what is already right."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.losses.class_weights import weights_for, weights_tensor
from segtrain.losses.inputs import Mode, check_mask, check_mode, class_truth, full_precision, split_ignored
from segtrain.losses.reduction import mean_over_labels, weighted_mean


def focal(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    gamma: float = 2.0,
    mode: Mode = "multiclass",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of -(1 - p) ** gamma log p, p the probability of the truth.

    In multiclass mode p is softmax's, one a pixel; in multilabel mode each class's sigmoid gives one, p or 1 - p.
    The mean is over what is not void, on all ranks and in all batches of an optimizer step (each batch counts the same
    if its mask is (N, C, H, W)); with class weights (the paper's alpha, one a class) it is divided by the sum of the
    weights, so that gamma 0 is weighted cross-entropy. The paper divides by the number of anchors with an object, which
    pixels have not. A batch of void gives zero with a gradient.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels; (N, C, H, W) of 0 and 1 too, if `mode` is multilabel.
        ignore_index: the label of void.
        gamma: 0 for cross-entropy.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
        class_weights: (C,).
    """
    check_mask(logits, mask, mode)
    logits = full_precision(logits)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    if mode == "multiclass":
        labels, valid = split_ignored(mask, ignore_index)
        surprise = F.cross_entropy(logits, mask.long(), ignore_index=ignore_index, reduction="none")  # -log p
        share = valid.to(logits.dtype) if weights is None else weights[labels] * valid
        total = (_focused(surprise, gamma) * share).sum()
        return mean_over_labels(total, mask, share=share, ignore_index=ignore_index, class_weights=weights)
    truth, valid = class_truth(mask, num_classes=logits.shape[1], ignore_index=ignore_index)
    surprise = F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
    surprise = _focused(surprise, gamma)
    by_class = None if weights is None else weights.view(-1, 1, 1)
    if mask.dim() == 4:
        return weighted_mean(surprise, valid, by_class)
    total = (surprise * (valid if by_class is None else valid * by_class)).sum()
    classes = logits.shape[1] if weights is None else weights.sum()  # of a labelled pixel all of them count
    return mean_over_labels(total / classes, mask, share=valid, ignore_index=ignore_index)


def _focused(surprise: Tensor, gamma: float) -> Tensor:
    """Return (1 - p) ** gamma times the surprise -log p."""
    if not gamma:
        return surprise
    # not from 0: there a power below 1 has no slope
    wrong = (-torch.expm1(-surprise)).clamp(min=torch.finfo(surprise.dtype).tiny)
    return wrong**gamma * surprise


class FocalLoss(nn.Module):
    """Module of `focal`.

    Args:
        ignore_index: the label of void.
        gamma: 0 or more.
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
        gamma: float = 2.0,
        mode: Mode = "multiclass",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma: {gamma} is below 0")
        self.ignore_index = ignore_index
        self.gamma = gamma
        self.mode = check_mode(mode)
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask.

        Raises:
            ValueError: if the mask or the class weights do not go with the logits.
        """
        return focal(
            logits,
            mask,
            ignore_index=self.ignore_index,
            gamma=self.gamma,
            mode=self.mode,
            class_weights=weights_for(logits, self.class_weights),
        )
