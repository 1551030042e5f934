"""Boundary loss (Kervadec et al., 2019, arXiv:1812.07032): probability far from its region costs the distance."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segtrain.losses.inputs import check_mask, full_precision, split_ignored
from segtrain.losses.reduction import mean_over_labels


def _distance(to: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return each pixel's exact Euclidean distance to the nearest of the given pixels, (H, W)."""
    others = (~to).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def signed_distances(mask: Tensor, *, num_classes: int, ignore_index: int) -> Tensor:
    """Return each pixel's distance to each class's region, float32 (N, C, H, W) in pixels.

    Outside it is the distance to the nearest pixel of the class; inside, minus that to the nearest of another
    class, plus 1, so that it is 0 on the region's edge (as in the paper's code). It is 0 everywhere for a class that
    an image has not, or has alone. Void is neither inside nor outside: its own distance is 0, and no other's ends
    there.

    Computed on the CPU, in time linear in the pixels and the classes that an image has; from a GPU the mask is
    copied, which waits for what the GPU is at. On the device, brute force takes time in the square of the height.

    Args:
        mask: (N, H, W) labels.
        num_classes: C.
        ignore_index: the label of void.
    """
    n, height, width = mask.shape
    distances = np.zeros((n, num_classes, height, width), np.float32)
    for image, labels in zip(distances, mask.cpu().numpy(), strict=True):
        valid = labels != ignore_index
        present = np.unique(labels[valid])
        for c in present if len(present) > 1 else ():
            inside = labels == c
            outside = valid & ~inside
            image[c] = _distance(inside) * outside - (_distance(outside) - 1) * inside
    return torch.from_numpy(distances).to(mask.device)


def boundary(logits: Tensor, mask: Tensor, *, ignore_index: int) -> Tensor:
    """Return the mean over the pixels of the sum over the classes of probability times signed distance.

    It is the expected distance, in pixels, of what a pixel is predicted to be; below 0 if that is right. It says
    little while the prediction is far off, and is added to another loss with a small weight (the paper begins with
    0.01). The mean is over the pixels that are not void, of all ranks and all batches of an optimizer step, where the
    paper's code takes it over the classes too; a batch of void gives zero with a gradient.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
    """
    check_mask(logits, mask, "multiclass")
    probability = full_precision(logits).softmax(dim=1)
    distances = signed_distances(mask, num_classes=logits.shape[1], ignore_index=ignore_index)
    _, valid = split_ignored(mask, ignore_index)
    return mean_over_labels((probability * distances).sum(), mask, share=valid, ignore_index=ignore_index)


class BoundaryLoss(nn.Module):
    """Module of `boundary`.

    Args:
        ignore_index: the label of void.
    """

    def __init__(self, *, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W)."""
        return boundary(logits, mask, ignore_index=self.ignore_index)
