"""The confusion matrix of a whole data set, exact for any batch size and number of processes."""

import torch
from torch import Tensor
from torchmetrics import Metric


def confusion_matrix(prediction: Tensor, mask: Tensor, *, num_classes: int, ignore_index: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column).

    Args:
        prediction: class ids in 0 to num_classes - 1, any shape.
        mask: labels of the same shape; `ignore_index` is not counted.
        num_classes: C.
        ignore_index: the label of void.

    Returns:
        int64 (C, C).
    """
    valid = mask != ignore_index
    pairs = mask[valid].long() * num_classes + prediction[valid].long()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


class ConfusionMatrix(Metric):
    """`confusion_matrix` summed over batches and processes; integers, so the order cannot matter.

    Args:
        num_classes: C.
        ignore_index: the label of void.
    """

    higher_is_better = None
    is_differentiable = False
    full_state_update = False
    matrix: Tensor

    def __init__(self, *, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Add a batch: class ids and labels of the same shape."""
        self.matrix += confusion_matrix(prediction, mask, num_classes=self.num_classes, ignore_index=self.ignore_index)

    def compute(self) -> Tensor:
        """Return int64 (C, C), rows the truth."""
        return self.matrix
