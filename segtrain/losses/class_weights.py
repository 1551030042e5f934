"""The class weights of a loss: are they numbers, and is there one for each class?"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def weights_tensor(class_weights: Sequence[float] | None) -> Tensor | None:
    """Return float32 (C,), or None.

    Raises:
        ValueError: if they are not finite numbers of 0 or more, not all 0.
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        raise ValueError(f"class_weights: {class_weights!r} must be resolved to one number a class first")
    values = [float(weight) for weight in class_weights]
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise ValueError(f"class_weights: {values}; weights are finite numbers of 0 or more, not all of them 0")
    return torch.tensor(values, dtype=torch.float32)


def weights_for(logits: Tensor, class_weights: Tensor | None) -> Tensor | None:
    """Return the weights for the classes of logits (N, C, H, W).

    Raises:
        ValueError: if there is not one a class.
    """
    if class_weights is not None and len(class_weights) != logits.shape[1]:
        raise ValueError(f"class_weights: {len(class_weights)} given for {logits.shape[1]} classes")
    return class_weights
