"""How much of each class is predicted, true, and both: the sums that Dice, Jaccard and Tversky are made of."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segtrain.losses.inputs import Mode, check_mask, class_truth, full_precision
from segtrain.losses.reduction import sum_over_ranks


class Overlap(NamedTuple):
    """Sums over the pixels of all ranks that are not void, each (C,).

    Attributes:
        both: of the probabilities where a class is true: soft true positives.
        predicted: of the probabilities; without `both`, soft false positives.
        true: how many pixels have the class; without `both`, soft false negatives.
    """

    both: Tensor
    predicted: Tensor
    true: Tensor


def soft_overlap(logits: Tensor, mask: Tensor, *, ignore_index: int, mode: Mode) -> Overlap:
    """Return the sums of the probabilities of logits (N, C, H, W).

    Args:
        logits: any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels; (N, C, H, W) of 0 and 1 too, if `mode` is multilabel.
        ignore_index: the label of void.
        mode: multiclass for softmax over the classes, multilabel for a sigmoid a class.
    """
    check_mask(logits, mask, mode)
    logits = full_precision(logits)
    probability = logits.softmax(dim=1) if mode == "multiclass" else logits.sigmoid()
    return Overlap(*sum_over_ranks(_ClassSums.apply(probability, mask, ignore_index)))


class _ClassSums(torch.autograd.Function):
    """Sums (3, C) of both, predicted and true.

    Written out, because autograd keeps and makes several tensors of the size of the logits for them: image by
    image this takes half the time, and no memory but the gradient.
    """

    @staticmethod
    def forward(ctx: Any, probability: Tensor, mask: Tensor, ignore_index: int) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.ignore_index, ctx.shape = ignore_index, probability.shape
        sums = probability.new_zeros(3, probability.shape[1])
        for image, labels in zip(probability.split(1), mask.split(1), strict=True):
            truth, valid = class_truth(labels, num_classes=len(sums[0]), ignore_index=ignore_index)
            sums[0] += (image * truth).sum(dim=(0, 2, 3))
            sums[1] += (image * valid.to(image.dtype)).sum(dim=(0, 2, 3))
            sums[2] += truth[0].flatten(1).sum(dim=1, dtype=torch.int32)  # of int64 it takes 20 times as long
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        both, predicted, _ = gradient.view(3, 1, -1, 1, 1)
        result = gradient.new_empty(ctx.shape)
        for image, labels in zip(result.split(1), mask.split(1), strict=True):
            truth, valid = class_truth(labels, num_classes=ctx.shape[1], ignore_index=ctx.ignore_index)
            torch.mul(torch.where(truth, both + predicted, predicted), valid.to(image.dtype), out=image)
        return result, None, None
