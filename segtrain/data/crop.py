"""Random scale and crop in one step: a window is cut out of the image first, and only that window is resized."""

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import Image

Window = tuple[int, int, int, int]  # top, left, height, width in pixels of the source; may reach beyond it


class RandomScaleCrop(A.DualTransform):
    """A crop of an image that was resized by a random factor, without resizing the rest of the image.

    The factor is uniform in `scale_range`, as in DeepLab's and mmsegmentation's recipes. A window of round(crop /
    factor) pixels is cut out and resized to the crop: the image bilinearly, the mask to the nearest pixel, both with
    centres aligned. Where the window is larger than the image, the image lies at random inside it and the rest is
    `fill` and `fill_mask`. Any dtype and number of channels that cv2.resize takes: uint8 and float32 images, masks
    of uint8 and int32.

    Bilinear also where it shrinks, as mmsegmentation does: INTER_AREA costs five times as much at most factors, and
    refuses images of more than four channels.

    Args:
        height: of the crop, in pixels.
        width: of the crop, in pixels.
        scale_range: lowest and highest resize factor; 2 makes objects twice as large.
        max_share: draw the place again while one class fills more than this share of the crop's valid pixels
            (0.75 is mmsegmentation's `cat_max_ratio`); after `tries` the least one-sided of them is taken.
        rare_share: with this probability the crop contains a random pixel of a class that is drawn uniformly from
            those in the mask, so that a class of few pixels is seen as often as one of many. A class that is a few
            pixels wide can still vanish when the crop shrinks it.
        tries: places that are drawn at most.
        fill: of the image where there is none.
        fill_mask: of the mask where there is none; also the label that is no class for the two shares.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        scale_range: Sequence[float] = (0.5, 2.0),
        max_share: float = 1.0,
        rare_share: float = 0.0,
        tries: int = 10,
        fill: float = 0.0,
        fill_mask: int = 0,
    ) -> None:
        super().__init__(p=1.0)
        if height < 1 or width < 1:
            raise ValueError(f"a crop of {height}x{width} pixels is empty; give 1 or more")
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(
                f"scale_range: {list(scale_range)} is not a lowest and a highest factor above 0, such as [0.5, 2.0]"
            )
        if not 0 < max_share <= 1:
            raise ValueError(f"max_share: {max_share} is not in (0, 1]: the share that one class may fill")
        if not 0 <= rare_share <= 1:
            raise ValueError(f"rare_share: {rare_share} is not in [0, 1]: the share of crops around a drawn class")
        if tries < 1:
            raise ValueError(f"tries: {tries} places are none; give 1 or more")
        self.height, self.width = height, width
        self.scale_range = (scale_range[0], scale_range[1])
        self.max_share, self.rare_share, self.tries = max_share, rare_share, tries
        self.fill, self.fill_mask = fill, fill_mask

    @property
    def targets_as_params(self) -> list[str]:
        """Name the inputs that the draws depend on; Albumentations refuses a call without them."""
        return ["image", "mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window; the factor stays when its place is drawn again."""
        mask = data["mask"]
        factor = self.py_random.uniform(*self.scale_range)
        height, width = (max(1, round(size / factor)) for size in (self.height, self.width))
        around = self.rare_share > 0 and self.py_random.random() < self.rare_share
        pixels = self._pixels_of_one_class(mask) if around else None
        if self.max_share == 1:
            return {"window": self._place(height, width, mask.shape, pixels)}
        tried = []
        for _ in range(self.tries):
            window = self._place(height, width, mask.shape, pixels)
            tried.append((self._largest_share(mask, window), window))
            if tried[-1][0] <= self.max_share:
                break
        return {"window": min(tried)[1]}

    def apply(self, img: Image, *args: Any, window: Window, **params: Any) -> Image:
        """Return the window of the image (H, W, C), resized to (height, width, C)."""
        cut = self._cut(img, window, fill=self.fill, interpolation=cv2.INTER_LINEAR)
        return cut.reshape(*cut.shape[:2], *img.shape[2:])  # cv2 drops a single channel

    def apply_to_mask(self, mask: NDArray[Any], *args: Any, window: Window, **params: Any) -> NDArray[Any]:
        """Return the window of the mask (H, W), resized to (height, width)."""
        return self._cut(mask, window, fill=self.fill_mask, interpolation=cv2.INTER_NEAREST_EXACT)

    def _place(self, height: int, width: int, shape: tuple[int, ...], pixels: NDArray[np.intp] | None) -> Window:
        """Draw a window's corner: anywhere, or so that it contains one of the pixels (flat indices)."""
        if pixels is None:
            return self._start(shape[0], height), self._start(shape[1], width), height, width
        row, column = divmod(int(pixels[self.py_random.randrange(len(pixels))]), shape[1])
        return self._start(shape[0], height, row), self._start(shape[1], width, column), height, width

    def _start(self, size: int, length: int, contained: int | None = None) -> int:
        low, high = min(0, size - length), max(0, size - length)
        if contained is not None:
            low, high = max(low, contained - length + 1), min(high, contained)
        return self.py_random.randint(low, high)

    def _pixels_of_one_class(self, mask: NDArray[Any]) -> NDArray[np.intp] | None:
        present = np.flatnonzero(np.bincount(mask[mask != self.fill_mask]))
        if not len(present):
            return None
        return np.flatnonzero(mask == self.py_random.choice(present))

    def _largest_share(self, mask: NDArray[Any], window: Window) -> float:
        """Return the share of the most frequent class in the crop's valid pixels; 1 where none is valid."""
        crop = self.apply_to_mask(mask, window=window)
        counts = np.bincount(crop[crop != self.fill_mask])
        return float(counts.max() / counts.sum()) if len(counts) else 1.0

    def _cut(self, array: NDArray[Any], window: Window, *, fill: float, interpolation: int) -> NDArray[Any]:
        top, left, height, width = window
        rows, to_rows = _overlap(top, height, array.shape[0], self.height)
        columns, to_columns = _overlap(left, width, array.shape[1], self.width)
        size = (to_columns.stop - to_columns.start, to_rows.stop - to_rows.start)
        part = cv2.resize(array[rows, columns], size, interpolation=interpolation)
        if size == (self.width, self.height):
            return part
        cut = np.full((self.height, self.width, *array.shape[2:]), fill, array.dtype)
        cut[to_rows, to_columns] = part.reshape(*part.shape[:2], *array.shape[2:])
        return cut


def _overlap(start: int, length: int, size: int, target: int) -> tuple[slice, slice]:
    """Return what of a line of `size` pixels lies in the window, and where that goes in a crop of `target` pixels."""
    first, last = max(start, 0), min(start + length, size)
    to_first = min(round((first - start) * target / length), target - 1)
    to_last = max(round((last - start) * target / length), to_first + 1)
    return slice(first, last), slice(to_first, to_last)
