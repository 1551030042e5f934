"""Is Lovasz-softmax the Lovasz extension of the Jaccard loss?"""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from every_loss import VOID, batch, certain_of
from torch import Tensor

from segtrain.losses import LovaszLoss


def extension_by_hand(logits: Tensor, mask: Tensor) -> float:
    """Apply the definition: the Jaccard loss of growing sets of wrong pixels, each counted anew, in float64."""
    scores, labels = logits.double().numpy(), mask.numpy()
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    valid, losses = labels != VOID, []
    for c in np.unique(labels[valid]):
        truth = (labels == c)[valid]
        errors = np.abs(truth - probability[:, c][valid])
        order = np.argsort(-errors)
        jaccard = [0.0]
        for count in range(1, len(order) + 1):
            wrong = np.zeros(len(order), bool)
            wrong[order[:count]] = True
            predicted = truth ^ wrong
            jaccard.append(1 - (truth & predicted).sum() / (truth | predicted).sum())
        losses.append(float(np.dot(errors[order], np.diff(jaccard))))
    return float(np.mean(losses))


def test_lovasz_agrees_with_its_definition() -> None:
    logits, mask = batch()
    assert LovaszLoss(ignore_index=VOID)(logits, mask).item() == pytest.approx(
        extension_by_hand(logits, mask), rel=1e-5
    )


def test_lovasz_leaves_out_classes_that_no_pixel_has() -> None:
    logits, mask = batch()
    mask[mask == 3] = 0
    assert LovaszLoss(ignore_index=VOID)(logits, mask).item() == pytest.approx(
        extension_by_hand(logits, mask), rel=1e-5
    )


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_and_its_gradient_agree_with_the_papers_code_in_segmentation_models_pytorch(per_image: bool) -> None:
    logits, mask = batch(size=12)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = LovaszLoss(ignore_index=VOID, per_image=per_image)(ours, mask)
    expected = smp.losses.LovaszLoss("multiclass", ignore_index=VOID, per_image=per_image)(theirs, mask)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou() -> None:
    _, mask = batch(void=0.2)
    _, predicted = batch(seed=1, void=0)
    ious = []
    for c in range(4):
        truth, found = mask == c, (predicted == c) & (mask != VOID)
        ious.append(((truth & found).sum() / (truth | found).sum()).item())
    loss = LovaszLoss(ignore_index=VOID)(certain_of(predicted), mask)
    assert loss.item() == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_per_image_is_the_mean_over_the_images_that_are_not_all_void() -> None:
    logits, mask = batch()
    alone = LovaszLoss(ignore_index=VOID)(logits[:1], mask[:1])
    mask[1] = VOID
    torch.testing.assert_close(LovaszLoss(ignore_index=VOID, per_image=True)(logits, mask), alone)
