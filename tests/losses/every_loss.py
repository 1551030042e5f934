"""All losses, the batch that they are tested on, and void."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from segtrain.losses import (
    BinaryCrossEntropyLoss,
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    OhemLoss,
    TverskyLoss,
    WeightedSum,
)

VOID = 255
WEIGHTS = [0.5, 2.0, 1.0, 0.25]

# each takes class weights, for those that have them
LOSSES: dict[str, Callable[[Sequence[float]], nn.Module]] = {
    "cross-entropy": lambda _: CrossEntropyLoss(ignore_index=VOID),
    "weighted, smoothed": lambda w: CrossEntropyLoss(ignore_index=VOID, class_weights=w, label_smoothing=0.1),
    "dice": lambda _: DiceLoss(ignore_index=VOID),
    "dice, multilabel": lambda _: DiceLoss(ignore_index=VOID, mode="multilabel"),
    "jaccard": lambda _: JaccardLoss(ignore_index=VOID),
    "tversky, weighted": lambda w: TverskyLoss(ignore_index=VOID, class_weights=w),
    "focal tversky": lambda _: TverskyLoss(ignore_index=VOID, gamma=4 / 3),
    "focal": lambda _: FocalLoss(ignore_index=VOID),
    "focal, weighted": lambda w: FocalLoss(ignore_index=VOID, gamma=0.5, class_weights=w),
    "focal, multilabel": lambda w: FocalLoss(ignore_index=VOID, mode="multilabel", class_weights=w),
    "binary cross-entropy": lambda w: BinaryCrossEntropyLoss(ignore_index=VOID, class_weights=w),
    "ohem": lambda _: OhemLoss(ignore_index=VOID, threshold=0.1, min_kept=0.3),
    "ohem, threshold": lambda w: OhemLoss(ignore_index=VOID, min_kept=0, class_weights=w),
    "lovasz": lambda _: LovaszLoss(ignore_index=VOID),
    "lovasz, per image": lambda _: LovaszLoss(ignore_index=VOID, per_image=True),
    "boundary": lambda _: BoundaryLoss(ignore_index=VOID),
    "sum": lambda _: WeightedSum(
        losses=[CrossEntropyLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID)], weights=[1.0, 0.5]
    ),
}
Make = Callable[[], nn.Module]
each_loss = pytest.mark.parametrize("make", [lambda m=m: m(WEIGHTS) for m in LOSSES.values()], ids=LOSSES.keys())


def batch(*, seed: int = 0, void: float = 0.3, size: int = 5) -> tuple[Tensor, Tensor]:
    """Return logits (2, 4, size, size) and a mask with a share of void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, size, size, generator=generator)
    mask = torch.randint(0, 4, (2, size, size), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < void] = VOID
    return logits, mask


def certain_of(mask: Tensor) -> Tensor:
    """Return logits (N, 4, H, W) whose probability of a mask's class is 1, of the others 0; void is class 0."""
    labels = torch.where(mask == VOID, 0, mask)
    return 100 * torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float() - 50
