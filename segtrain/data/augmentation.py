"""Albumentations behind one door: seeded by sample, padding is void, unknown arguments are errors."""

import random
from collections.abc import Sequence

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import Image


class Augmentation:
    """A list of transforms whose draws depend on nothing but the seed given with each sample.

    Args:
        transforms: Albumentations' transforms, in order.
        ignore_index: what every padded or uncovered pixel of a mask becomes.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform | A.BaseCompose], *, ignore_index: int) -> None:
        for transform in _leaves(transforms):
            if hasattr(transform, "fill_mask"):
                transform.fill_mask = ignore_index  # the stock default is class 0
        self.compose = A.Compose(list(transforms), strict=True)

    def __call__(self, image: Image, mask: NDArray[np.integer], *, seed: int) -> tuple[Image, NDArray[np.integer]]:
        """Return the transformed image (H, W, C) and mask (H, W)."""
        # one stream for all: set_random_seed(seed) would give every transform the same numbers, and two flips
        # of p=0.5 would then always come together
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self.compose(image=image, mask=mask)
        return result["image"], result["mask"]


def _leaves(transforms: Sequence[A.BasicTransform | A.BaseCompose]) -> list[A.BasicTransform]:
    leaves = []
    for transform in transforms:
        leaves += _leaves(transform.transforms) if isinstance(transform, A.BaseCompose) else [transform]
    return leaves
