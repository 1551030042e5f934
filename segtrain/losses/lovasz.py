"""Lovasz-softmax (Berman et al., 2018, arXiv:1705.08790): a convex surface over the Jaccard index of hard errors."""

import torch
from torch import Tensor, nn

from segtrain.losses.inputs import check_mask, class_truth, full_precision
from segtrain.losses.reduction import mean_over_ranks


def lovasz_slope(errors: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the gradient of one class's Lovasz extension with respect to the errors (paper, equation 9).

    It is how much the Jaccard loss grows when each pixel, from the largest error down, becomes wrong. Taken as
    fractions of whole numbers, where the paper's code takes differences of nearly equal ones. Void has none.

    Args:
        errors: of each pixel, in [0, 1], any shape.
        truth: boolean, the pixels that have the class; False for void.
        valid: boolean, False for void.
    """
    order = errors.masked_fill(~valid, -1).flatten().argsort(descending=True)  # void is last
    wrong_true = truth.flatten()[order]
    missed = wrong_true.cumsum(0)  # int64: float32 does not count beyond 2 ** 24
    union = missed[-1] + torch.arange(1, len(order) + 1, device=order.device) - missed
    growth = torch.where(wrong_true, 1 / union, (missed[-1] - missed) / (union * (union - 1)).clamp(min=1))
    slope = torch.empty_like(growth).scatter_(0, order, growth).to(errors.dtype)
    return slope.view_as(errors) * valid


def lovasz_softmax(logits: Tensor, mask: Tensor, *, ignore_index: int, per_image: bool = False) -> Tensor:
    """Return the mean over the present classes of the Lovasz extension of the Jaccard loss of softmax's errors.

    Classes that no pixel has are left out, void too. Pixels are sorted over this rank's batch, or each image by
    itself: several ranks take the mean of their own losses, as sorting over all would move every pixel between
    them. Batches or images that are all void are no part of the mean; a batch of void gives zero with a gradient.
    The batches of an optimizer step have losses of their own, which count the same.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
        per_image: whether the loss is that of each image, averaged; else that of the batch as one image.
    """
    check_mask(logits, mask, "multiclass")
    probability = full_precision(logits).softmax(dim=1)
    truth, valid = class_truth(mask, num_classes=logits.shape[1], ignore_index=ignore_index)
    errors = torch.where(truth, 1 - probability, probability)  # (N, C, H, W)
    slopes = torch.empty_like(errors)
    groups = [slice(n, n + 1) for n in range(len(mask))] if per_image else [slice(None)]
    with torch.no_grad():  # the slope is constant between two orders, and one class at a time needs less memory
        for images in groups:
            for c in range(logits.shape[1]):
                slopes[images, c] = lovasz_slope(errors[images, c], truth[images, c], valid[images, 0])
    by_class, present = (errors * slopes).sum(dim=(2, 3)), truth.flatten(2).any(dim=2)  # (N, C)
    if not per_image:
        by_class, present = by_class.sum(dim=0, keepdim=True), present.any(dim=0, keepdim=True)
    count = present.sum(dim=1)
    by_group = (by_class * present).sum(dim=1) / count.clamp(min=1)
    return mean_over_ranks(by_group.sum(), (count > 0).sum())


class LovaszLoss(nn.Module):
    """Module of `lovasz_softmax`.

    Args:
        ignore_index: the label of void.
        per_image: whether the loss is that of each image, averaged; else that of the batch as one image.
    """

    def __init__(self, *, ignore_index: int, per_image: bool = False) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.per_image = per_image

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W)."""
        return lovasz_softmax(logits, mask, ignore_index=self.ignore_index, per_image=self.per_image)
