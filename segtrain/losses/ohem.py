"""Online hard example mining (Shrivastava et al., 2016, arXiv:1604.03540): cross-entropy of the hard pixels."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.losses.class_weights import weights_for, weights_tensor
from segtrain.losses.inputs import full_precision, split_ignored
from segtrain.losses.reduction import weighted_mean


def hard_pixels(surprise: Tensor, valid: Tensor, *, threshold: float, min_kept: float) -> Tensor:
    """Return which pixels are kept, boolean: those below the threshold, and the hardest share of them all.

    Pixels that are as hard as the last one of the share are kept too, so the order of the pixels does not matter.

    Args:
        surprise: -log of the probability of the true class, one a pixel, 0 or more; 0 for void.
        valid: boolean, False for void; of the same shape.
        threshold: probability of the true class.
        min_kept: share of the pixels that are not void.
    """
    kept = surprise > -math.log(threshold)
    most = math.ceil(min_kept * surprise.numel())
    if most:
        hardest = surprise.flatten().topk(most).values  # falling; void is last
        # no more than `most`: how many it is stays on the device
        last = (valid.sum() * min_kept).ceil().long().clamp(1, most) - 1
        kept = kept | (surprise >= hardest.gather(0, last.view(1)))
    return kept & valid


def ohem(
    logits: Tensor,
    mask: Tensor,
    *,
    ignore_index: int,
    threshold: float = 0.7,
    min_kept: float = 0.0625,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of the hard pixels: as usual in segmentation, those that are not yet likely.

    Kept are the pixels whose true class has a probability below `threshold`, and at least the hardest `min_kept` of
    the pixels that are not void. The mean is over the kept pixels of all ranks, with class weights divided by
    their weights; the hardest share is each rank's own. The batches of an optimizer step look for their own hard
    pixels, and have losses of their own, which count the same. A batch of void gives zero with a gradient.

    Deviation: the paper keeps regions of an image; the threshold is that of the common code for segmentation.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels.
        ignore_index: the label of void.
        threshold: probability of the true class.
        min_kept: share of the pixels; 0 for the threshold alone.
        class_weights: (C,); which pixels are hard does not depend on them.
    """
    labels, valid = split_ignored(mask, ignore_index)
    logits = full_precision(logits)
    surprise = F.cross_entropy(logits, mask.long(), ignore_index=ignore_index, reduction="none")
    kept = hard_pixels(surprise.detach(), valid, threshold=threshold, min_kept=min_kept)
    weights = None if class_weights is None else class_weights.to(logits.dtype)[labels]
    return weighted_mean(surprise, kept, weights)


class OhemLoss(nn.Module):
    """Module of `ohem`.

    Args:
        ignore_index: the label of void.
        threshold: in (0, 1]; 1 keeps every pixel.
        min_kept: in [0, 1].
        class_weights: one weight a class, or None.

    Raises:
        ValueError: if a number is outside its range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int,
        threshold: float = 0.7,
        min_kept: float = 0.0625,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold: {threshold} is not above 0 to 1, a probability")
        if not 0 <= min_kept <= 1:
            raise ValueError(f"min_kept: {min_kept} is not in [0, 1], a share of the pixels")
        self.ignore_index = ignore_index
        self.threshold = threshold
        self.min_kept = min_kept
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask (N, H, W).

        Raises:
            ValueError: if there is not one class weight a channel of the logits.
        """
        return ohem(
            logits,
            mask,
            ignore_index=self.ignore_index,
            threshold=self.threshold,
            min_kept=self.min_kept,
            class_weights=weights_for(logits, self.class_weights),
        )
