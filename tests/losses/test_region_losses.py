"""Are Dice, Jaccard, Tversky and focal Tversky the fractions of their papers?"""

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from every_loss import VOID, WEIGHTS, batch, certain_of
from torch import Tensor

from segtrain.losses import DiceLoss, JaccardLoss, TverskyLoss


def by_hand(
    logits: Tensor,
    mask: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    sigmoid: bool = False,
    weights: list[float] | None = None,
) -> float:
    """Sum true positives, false positives and false negatives in NumPy, in float64."""
    scores = logits.double().numpy()
    exponential = np.exp(scores)
    probability = 1 / (1 + np.exp(-scores)) if sigmoid else exponential / exponential.sum(axis=1, keepdims=True)
    valid, losses, share = mask.numpy() != VOID, [], []
    for c in range(logits.shape[1]):
        truth = (mask.numpy() == c) & valid
        if truth.any():
            p = probability[:, c]
            tp, fp, fn = p[truth].sum(), p[valid & ~truth].sum(), (1 - p[truth]).sum()
            losses.append((1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)) ** (1 / gamma))
            share.append(1.0 if weights is None else weights[c])
    return float(np.average(losses, weights=share))


@pytest.mark.parametrize("smooth", [0.0, 1.0, 10.0])
def test_dice_agrees_with_numpy(smooth: float) -> None:
    logits, mask = batch()
    loss = DiceLoss(ignore_index=VOID, smooth=smooth)(logits, mask)
    # (2 TP + s) / (2 TP + FP + FN + s): half of it on both sides
    assert loss.item() == pytest.approx(by_hand(logits, mask, smooth=smooth / 2), rel=1e-5)


def test_dice_of_two_by_two_pixels_is_its_fraction() -> None:
    # probabilities are 1/2; class 0 has 3 pixels, class 1 has 1: (2 * 1.5) / (2 + 3) and (2 * 0.5) / (2 + 1)
    loss = DiceLoss(ignore_index=VOID, smooth=0.0)(torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [0, 1]]]))
    assert loss.item() == pytest.approx(1 - (3 / 5 + 1 / 3) / 2, rel=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 2.0])
def test_jaccard_and_tversky_agree_with_numpy(smooth: float) -> None:
    logits, mask = batch()
    jaccard = JaccardLoss(ignore_index=VOID, smooth=smooth)(logits, mask)
    assert jaccard.item() == pytest.approx(by_hand(logits, mask, alpha=1, beta=1, smooth=smooth), rel=1e-5)
    for alpha, beta, gamma in ((0.3, 0.7, 1.0), (0.9, 0.2, 1.0), (0.3, 0.7, 4 / 3), (0.3, 0.7, 3.0)):
        numbers = {"alpha": alpha, "beta": beta, "gamma": gamma, "smooth": smooth}
        loss = TverskyLoss(ignore_index=VOID, **numbers)(logits, mask)
        assert loss.item() == pytest.approx(by_hand(logits, mask, **numbers), rel=1e-5)


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_the_losses_agree_with_those_of_segmentation_models_pytorch(mode: Any) -> None:
    # all classes are in the batch: SMP divides by all classes, we by those that are there
    logits, mask = batch(void=0.3 if mode == "multiclass" else 0)
    # SMP takes no labels for multilabel
    target = mask if mode == "multiclass" else F.one_hot(mask, 4).permute(0, 3, 1, 2)
    theirs: dict[str, Any] = {"mode": mode, "ignore_index": VOID if mode == "multiclass" else None}
    common: dict[str, Any] = {"mode": mode, "ignore_index": VOID, "class_weights": WEIGHTS}
    dice = DiceLoss(smooth=4.0, **common)(logits, mask)  # SMP's smooth is for TP, not 2 TP
    torch.testing.assert_close(
        dice, smp.losses.DiceLoss(smooth=2.0, class_weights=WEIGHTS, **theirs)(logits, target), rtol=1e-5, atol=1e-6
    )
    jaccard = JaccardLoss(smooth=2.0, **common)(logits, mask)
    torch.testing.assert_close(
        jaccard,
        smp.losses.JaccardLoss(smooth=2.0, class_weights=WEIGHTS, **theirs)(logits, target),
        rtol=1e-5,
        atol=1e-6,
    )
    tversky = TverskyLoss(alpha=0.2, beta=0.9, smooth=2.0, **common)(logits, mask)
    expected = smp.losses.TverskyLoss(alpha=0.2, beta=0.9, smooth=2.0, class_weights=WEIGHTS, **theirs)(logits, target)
    torch.testing.assert_close(tversky, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [DiceLoss, JaccardLoss])
def test_classes_that_no_pixel_has_are_left_out(loss: type[DiceLoss] | type[JaccardLoss]) -> None:
    logits, mask = batch()
    mask[mask == 3] = 0
    side = 0.5 if loss is DiceLoss else 1.0
    found = loss(ignore_index=VOID, smooth=0.0, class_weights=WEIGHTS)(logits, mask)
    assert found.item() == pytest.approx(by_hand(logits, mask, alpha=side, beta=side, weights=WEIGHTS), rel=1e-5)


def test_a_certain_and_right_prediction_gives_zero_and_a_wrong_one_gives_one() -> None:
    _, mask = batch(void=0)
    for loss in (DiceLoss(ignore_index=VOID, smooth=0.0), JaccardLoss(ignore_index=VOID, smooth=0.0)):
        assert loss(certain_of(mask), mask).item() == pytest.approx(0, abs=1e-6)
        assert loss(certain_of((mask + 1) % 4), mask).item() == pytest.approx(1, abs=1e-6)


def test_a_mask_of_several_classes_a_pixel_agrees_with_numpy_class_by_class() -> None:
    logits, _ = batch()
    generator = torch.Generator().manual_seed(5)
    mask = torch.randint(0, 2, logits.shape, generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.3] = VOID  # not known for one class, known for another
    loss = DiceLoss(ignore_index=VOID, smooth=0.0, mode="multilabel")(logits, mask)
    parts = []
    for c in range(4):
        labels = torch.where(mask[:, c] == VOID, VOID, 1 - mask[:, c])  # class 0 is this class, 1 its absence
        parts.append(by_hand(logits[:, c : c + 1], labels, sigmoid=True))
    assert loss.item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_labels_in_multilabel_mode_are_each_class_against_the_rest() -> None:
    logits, mask = batch()
    one_hot = F.one_hot(torch.where(mask == VOID, 0, mask), 4).permute(0, 3, 1, 2)
    one_hot = torch.where((mask == VOID).unsqueeze(1), VOID, one_hot)
    loss = TverskyLoss(ignore_index=VOID, mode="multilabel")
    torch.testing.assert_close(loss(logits, mask), loss(logits, one_hot))
    assert loss(logits, mask).item() == pytest.approx(
        by_hand(logits, mask, alpha=0.3, beta=0.7, smooth=1.0, sigmoid=True), rel=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -0.1}, "alpha: -0.1 is below 0"),
        ({"beta": float("nan")}, "beta: nan is below 0"),
        ({"smooth": -1}, "smooth: -1 is below 0"),
        ({"gamma": 0}, "gamma: 0 is not above 0"),
        ({"mode": "binary"}, "mode: 'binary' is not multiclass"),
    ],
)
def test_numbers_and_modes_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TverskyLoss(ignore_index=VOID, **arguments)


def test_labels_for_one_sigmoid_are_refused_as_they_do_not_say_what_0_is() -> None:
    loss = DiceLoss(ignore_index=VOID, mode="multilabel")
    with pytest.raises(ValueError, match=r"labels \(1, 2, 2\) for one class; give 0 and 1 as \(1, 1, 2, 2\)"):
        loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2))


def test_a_mask_of_several_classes_a_pixel_is_refused_in_multiclass_mode() -> None:
    logits, _ = batch()
    with pytest.raises(ValueError, match=r"mask: its shape is \(2, 4, 5, 5\); mode multiclass takes \(2, 5, 5\)"):
        DiceLoss(ignore_index=VOID)(logits, torch.zeros(2, 4, 5, 5))
