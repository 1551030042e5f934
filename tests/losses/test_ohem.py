"""Does OHEM take the mean over the hard pixels, and over which?"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from every_loss import VOID, WEIGHTS, batch

from segtrain.losses import CrossEntropyLoss, OhemLoss


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [0.0, 0.02, 0.25, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ohem_agrees_with_numpy(threshold: float, min_kept: float, weights: list[float] | None) -> None:
    logits, mask = batch()
    scores, labels = logits.double().numpy(), mask.numpy()
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    pixels = sorted((probability[n, labels[n, y, x], y, x], labels[n, y, x]) for n, y, x in np.argwhere(labels != VOID))
    pixels = [
        pixel for rank, pixel in enumerate(pixels) if pixel[0] < threshold or rank < math.ceil(min_kept * len(pixels))
    ]
    share = [1.0 if weights is None else weights[label] for _, label in pixels]
    expected = np.average([-np.log(p) for p, _ in pixels], weights=share) if pixels else 0.0
    loss = OhemLoss(ignore_index=VOID, threshold=threshold, min_kept=min_kept, class_weights=weights)(logits, mask)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_ohem_that_keeps_all_is_cross_entropy() -> None:
    expected = CrossEntropyLoss(ignore_index=VOID)(*batch())
    torch.testing.assert_close(OhemLoss(ignore_index=VOID, threshold=1.0)(*batch()), expected)
    torch.testing.assert_close(OhemLoss(ignore_index=VOID, min_kept=1.0)(*batch()), expected)


def test_only_kept_pixels_get_a_gradient() -> None:
    logits, mask = batch(void=0)
    OhemLoss(ignore_index=VOID, threshold=0.5, min_kept=0)(logits.requires_grad_(), mask).backward()
    assert logits.grad is not None
    hard = logits.softmax(dim=1).gather(1, mask.unsqueeze(1)).squeeze(1) < 0.5
    assert hard.any()
    assert torch.equal(logits.grad.abs().sum(dim=1) > 0, hard)


def test_pixels_as_hard_as_the_last_one_of_the_share_are_kept() -> None:
    logits, mask = torch.zeros(1, 4, 5, 5).requires_grad_(), torch.zeros(1, 5, 5, dtype=torch.int64)
    OhemLoss(ignore_index=VOID, threshold=0.1, min_kept=0.2)(logits, mask).backward()
    assert logits.grad is not None
    assert logits.grad.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0}, "threshold: 0 is not above 0 to 1"),
        ({"threshold": 1.1}, "threshold: 1.1 is not"),
        ({"min_kept": 100000}, r"min_kept: 100000 is not in \[0, 1\], a share of the pixels"),
        ({"min_kept": -0.1}, "min_kept: -0.1 is not"),
    ],
)
def test_numbers_outside_their_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OhemLoss(ignore_index=VOID, **arguments)
