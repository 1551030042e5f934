"""Are the focal loss and binary cross-entropy what their papers, torch, torchvision and SMP say?"""

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from every_loss import VOID, WEIGHTS, batch
from torchvision.ops import sigmoid_focal_loss

from segtrain.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_agrees_with_numpy(gamma: float, weights: list[float] | None) -> None:
    logits, mask = batch()
    scores, labels = logits.double().numpy(), mask.numpy()
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    total = count = 0.0
    for n, y, x in zip(*np.nonzero(labels != VOID), strict=True):
        p, weight = probability[n, labels[n, y, x], y, x], 1 if weights is None else weights[labels[n, y, x]]
        total -= weight * (1 - p) ** gamma * np.log(p)
        count += weight
    loss = FocalLoss(ignore_index=VOID, gamma=gamma, class_weights=weights)(logits, mask)
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_of_gamma_0_is_cross_entropy(weights: list[float] | None) -> None:
    focal = FocalLoss(ignore_index=VOID, gamma=0.0, class_weights=weights)
    torch.testing.assert_close(focal(*batch()), CrossEntropyLoss(ignore_index=VOID, class_weights=weights)(*batch()))


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_of_sigmoids_agrees_with_torchvision(gamma: float) -> None:
    logits, _ = batch()
    mask = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(6))
    mask[:, :, 0] = VOID
    loss = FocalLoss(ignore_index=VOID, gamma=gamma, mode="multilabel")(logits, mask)
    expected = sigmoid_focal_loss(logits[:, :, 1:], mask[:, :, 1:].float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(loss, expected)


def test_focal_of_sigmoids_agrees_with_segmentation_models_pytorch() -> None:
    # SMP's multiclass focal loss is of sigmoids too, each class against the rest
    logits, mask = batch()
    loss = FocalLoss(ignore_index=VOID, gamma=2.0, mode="multilabel")(logits, mask)
    torch.testing.assert_close(loss, smp.losses.FocalLoss("multiclass", gamma=2.0, ignore_index=VOID)(logits, mask))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy_agrees_with_torch(weights: list[float] | None) -> None:
    logits, mask = batch()
    valid = (mask != VOID).unsqueeze(1).expand_as(logits)
    one_hot = F.one_hot(torch.where(mask == VOID, 0, mask), 4).permute(0, 3, 1, 2)
    each = F.binary_cross_entropy_with_logits(logits.double(), one_hot.double(), reduction="none")
    share = torch.tensor(weights or [1.0] * 4).double().view(4, 1, 1) * valid
    loss = BinaryCrossEntropyLoss(ignore_index=VOID, class_weights=weights)
    expected = ((each * share).sum() / share.sum()).float()
    torch.testing.assert_close(loss(logits, mask), expected)
    torch.testing.assert_close(loss(logits, torch.where(valid, one_hot, VOID)), expected)


def test_binary_cross_entropy_of_one_logit_is_that_of_torch() -> None:
    logits, mask = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2), torch.tensor([1, 0]).view(1, 1, 1, 2)
    expected = F.binary_cross_entropy_with_logits(logits, mask.float())
    torch.testing.assert_close(BinaryCrossEntropyLoss(ignore_index=VOID)(logits, mask), expected)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"gamma": -1}, "gamma: -1 is below 0"), ({"mode": "softmax"}, "mode: 'softmax' is not")]
)
def test_what_focal_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FocalLoss(ignore_index=VOID, **arguments)
