"""Progressive resolution: how large are the crops of an epoch?"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import Image

MULTIPLE = 32  # the coarsest stride of the encoders


class Progressive:
    """Crops that grow over the run: smaller ones, of the same field of view, make its first epochs fast.

    The epochs are divided into equal parts, in each of which images and masks are resized to a share of their sides
    (Howard, 2018, for DAWNBench; Tan and Le, 2021, arXiv:2104.00298, section 4, who let the augmentation grow too).

    Args:
        shares: one a part, each above 0 to 1.
        epochs: of the whole run; after them the last share holds.

    Raises:
        ValueError: for shares outside that range, none at all, or more than there are epochs.
    """

    def __init__(self, shares: Sequence[float], *, epochs: int) -> None:
        if not shares or not all(0 < share <= 1 for share in shares):
            raise ValueError(f"{list(shares)} are not shares above 0 to 1, such as [0.5, 0.75, 1]")
        if len(shares) > epochs:
            raise ValueError(f"{len(shares)} sizes for {epochs} epochs; give fewer, or more epochs")
        self.shares = tuple(shares)
        self.epochs = epochs

    def share(self, epoch: int) -> float:
        """Return the share of an epoch, counted from 0."""
        return self.shares[min(epoch * len(self.shares) // self.epochs, len(self.shares) - 1)]

    def __call__(self, image: Image, mask: NDArray[np.integer], *, epoch: int) -> tuple[Image, NDArray[np.integer]]:
        """Return the image (H, W, C), averaged over areas, and the mask (H, W), of the nearest pixels, resized."""
        height, width = (side_at(self.share(epoch), side) for side in mask.shape)
        if (height, width) == mask.shape:
            return image, mask
        size = (width, height)
        parts: list[Any] = [  # OpenCV averages four channels at most
            cv2.resize(image[..., first : first + 4], size, interpolation=cv2.INTER_AREA).reshape(height, width, -1)
            for first in range(0, image.shape[-1], 4)
        ]
        nearest: Any = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1), nearest


def side_at(share: float, side: int) -> int:
    """Return the side in pixels at a share of it: the nearest multiple of 32, and no more than it was."""
    return side if share == 1 else min(side, max(MULTIPLE, round(side * share / MULTIPLE) * MULTIPLE))
