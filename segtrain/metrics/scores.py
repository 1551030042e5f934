"""Scores read off a confusion matrix, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

OVERALL = ("miou", "mean_f1", "pixel_accuracy", "mean_accuracy")


def score_names(class_names: Sequence[str]) -> list[str]:
    """Return the keys that `scores` gives."""
    return [*OVERALL, *(f"{score}/{name}" for score in ("iou", "f1") for name in class_names)]


def scores(matrix: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return mean and per-class scores of a confusion matrix.

    `miou` and `mean_f1` are means over the classes that the truth or the prediction has (as mmsegmentation);
    `mean_accuracy` (mean recall) over the classes that the truth has; `pixel_accuracy` is over all pixels. The
    score of a class that neither has is NaN, and so is everything for an empty matrix.

    Args:
        matrix: integer (C, C), rows the truth, columns the prediction.
        class_names: C names.
    """
    counts = matrix.to("cpu", torch.float64)
    hit, truth, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    union = truth + predicted - hit
    iou = hit / union  # 0 / 0 is NaN: the class is absent
    f1 = 2 * hit / (truth + predicted)
    recall = hit / truth
    result = {
        "miou": float(iou.nanmean()),
        "mean_f1": float(f1.nanmean()),
        "pixel_accuracy": float(hit.sum() / counts.sum()),
        "mean_accuracy": float(recall.nanmean()),
    }
    result |= {f"iou/{name}": float(value) for name, value in zip(class_names, iou, strict=True)}
    result |= {f"f1/{name}": float(value) for name, value in zip(class_names, f1, strict=True)}
    return result
