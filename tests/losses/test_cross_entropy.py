"""Is cross-entropy the mean negative log-probability, and a weighted sum the sum of its parts?"""

import math

import numpy as np
import pytest
import torch
from every_loss import VOID, WEIGHTS, batch
from torch import Tensor, nn

from segtrain.losses import BoundaryLoss, CrossEntropyLoss, DiceLoss, WeightedSum


def cross_entropy_by_hand(
    logits: Tensor, mask: Tensor, *, weights: list[float] | None = None, smoothing: float = 0.0
) -> float:
    """Sum over pixels and classes one by one, in float64."""
    scores, total, count = logits.double().numpy(), 0.0, 0.0
    for n, y, x in np.ndindex(*mask.shape):
        label = int(mask[n, y, x])
        if label == VOID:
            continue
        pixel = scores[n, :, y, x]
        log_probability = pixel - math.log(sum(math.exp(value) for value in pixel))
        for c, value in enumerate(log_probability):
            target = (1 - smoothing) * (c == label) + smoothing / len(pixel)
            total -= target * value * (1 if weights is None else weights[c])
        count += 1 if weights is None else weights[label]
    return total / count


def test_cross_entropy_of_three_by_three_pixels_is_the_mean_negative_log_probability() -> None:
    # two classes; logits (log 3, 0) give probabilities (3/4, 1/4)
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    mask = torch.tensor([[[0, 0, 1], [1, VOID, 0], [VOID, VOID, 0]]])
    expected = -(4 * math.log(0.75) + 2 * math.log(0.25)) / 6
    assert CrossEntropyLoss(ignore_index=VOID)(logits, mask).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_agrees_with_a_sum_by_hand_and_with_torch(weights: list[float] | None, smoothing: float) -> None:
    logits, mask = batch()
    loss = CrossEntropyLoss(ignore_index=VOID, class_weights=weights, label_smoothing=smoothing)(logits, mask)
    assert loss.item() == pytest.approx(
        cross_entropy_by_hand(logits, mask, weights=weights, smoothing=smoothing), rel=1e-5
    )
    tensor = None if weights is None else torch.tensor(weights)
    torchs = nn.CrossEntropyLoss(weight=tensor, ignore_index=VOID, label_smoothing=smoothing)(logits, mask)
    torch.testing.assert_close(loss, torchs)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0])
def test_label_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing: {smoothing} is not in \[0, 1\)"):
        CrossEntropyLoss(ignore_index=VOID, label_smoothing=smoothing)


def test_weighted_sum_adds_the_losses_times_their_weights() -> None:
    logits, mask = batch()
    parts = [CrossEntropyLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID), BoundaryLoss(ignore_index=VOID)]
    expected = 0.3 * cross_entropy_by_hand(logits, mask)
    expected += 2.0 * parts[1](logits, mask).item() + 0.01 * parts[2](logits, mask).item()
    assert WeightedSum(losses=parts, weights=[0.3, 2.0, 0.01])(logits, mask).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 2.0, 3.0]])
def test_weighted_sum_wants_one_weight_a_loss(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=f"weights: {len(weights)} given for 2 losses"):
        WeightedSum(losses=[DiceLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID)], weights=weights)
