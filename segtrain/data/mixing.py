"""Batch-level mixing: CutMix, ClassMix and copy-paste, each a pure function of the batch and its samples' seeds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import Image
from segtrain.data.masks import Mask


class Mix(ABC):
    """What pastes a part of one sample of a batch into another one.

    Sample j of N gets a part of its partner (j + N/2) mod N, always of the batch as it came in. All draws for sample
    j come from a generator of `seeds[j]`.

    Args:
        p: share of the samples that are mixed; the others keep every byte.

    Raises:
        ValueError: if p is no share.
    """

    def __init__(self, *, p: float) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p: {p} is not in [0, 1]: the share of the samples that are mixed")
        self.p = p

    def __call__(self, images: Image, masks: Mask, *, seeds: Sequence[int]) -> tuple[Image, Mask]:
        """Return the mixed images (N, H, W, C) and masks (N, H, W); the inputs where nothing is mixed.

        Raises:
            ValueError: if N is odd, or there is not one seed a sample.
        """
        count = len(images)
        if count % 2:
            raise ValueError(
                f"{type(self).__name__} pairs the images of a batch, and {count} is odd; give an even loader.batch_size"
            )
        mixed_images, mixed_masks = images, masks
        for index, seed in zip(range(count), seeds, strict=True):
            rng = np.random.default_rng(seed)
            if rng.random() >= self.p:
                continue
            if mixed_images is images:
                mixed_images, mixed_masks = images.copy(), masks.copy()
            partner = (index + count // 2) % count
            self.paste(mixed_images[index], mixed_masks[index], images[partner], masks[partner], rng=rng)
        return mixed_images, mixed_masks

    @abstractmethod
    def paste(
        self, image: Image, mask: Mask, other_image: Image, other_mask: Mask, *, rng: np.random.Generator
    ) -> None:
        """Write a part of another image (H, W, C) and its mask (H, W) into an image and its mask, in place."""


class CutMix(Mix):
    """A rectangle of the partner (Yun et al. 2019, arXiv:1905.04899; in segmentation French et al. 2020, 1906.01916).

    Its area is 1 - lambda of the image, lambda drawn from Beta(alpha, alpha), its sides are in the image's ratio, its
    centre is anywhere, and what lies outside the image is lost, as in section 3.1 and the authors' code. The mask is
    pasted with the image, so labels need no mixture.

    Args:
        p: share of the samples that are mixed.
        alpha: 1 makes all areas equally likely; larger values prefer half of the image.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, *, p: float = 0.5, alpha: float = 1.0) -> None:
        super().__init__(p=p)
        if alpha <= 0:
            raise ValueError(f"alpha: {alpha} is not above 0, as Beta(alpha, alpha) needs")
        self.alpha = alpha

    def paste(
        self, image: Image, mask: Mask, other_image: Image, other_mask: Mask, *, rng: np.random.Generator
    ) -> None:
        """Write a rectangle of the other image and mask."""
        side = np.sqrt(1 - rng.beta(self.alpha, self.alpha))  # as a share of the image's
        rows, columns = (_stretch(size, round(side * size), int(rng.integers(size))) for size in mask.shape)
        image[rows, columns] = other_image[rows, columns]
        mask[rows, columns] = other_mask[rows, columns]


class ClassMix(Mix):
    """All pixels of half of the partner's classes (Olsson et al. 2021, arXiv:2007.07936, Algorithm 1).

    Deviations: the paper mixes unlabelled images along predicted classes; here the classes are the mask's. Of an odd
    number of classes the smaller half is drawn, as in the authors' code, so of one class nothing is pasted.

    Args:
        ignore_index: void, which is no class and is never pasted.
        p: share of the samples that are mixed.

    Raises:
        ValueError: if p is no share.
    """

    def __init__(self, *, ignore_index: int, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.ignore_index = ignore_index

    def paste(
        self, image: Image, mask: Mask, other_image: Image, other_mask: Mask, *, rng: np.random.Generator
    ) -> None:
        """Write the pixels of half of the other mask's classes."""
        classes = np.flatnonzero(np.bincount(other_mask[other_mask != self.ignore_index]))
        drawn = rng.choice(classes, len(classes) // 2, replace=False)
        _copy(image, mask, other_image, other_mask, where=np.isin(other_mask, drawn))


class CopyPaste(Mix):
    """The partner's objects, mirrored and shifted at random (Ghiasi et al. 2021, arXiv:2012.07177).

    Deviations: masks of classes do not tell objects apart, so all pixels of the pasted classes go together, not a
    random subset of objects. The random scale is the augmentation's, before the batch; the shift is added, so that
    objects do not always stay at their place. Edges are not blended (the paper finds no gain in it).

    Args:
        ignore_index: void, which is never pasted.
        p: share of the samples that are mixed.
        classes: that are pasted; None: all but class 0, the background.
        max_shift: up to this share of height and width, in each direction.

    Raises:
        ValueError: if an argument is out of its range, or void is one of the classes.
    """

    def __init__(
        self, *, ignore_index: int, p: float = 0.5, classes: Sequence[int] | None = None, max_shift: float = 0.25
    ) -> None:
        super().__init__(p=p)
        if not 0 <= max_shift < 1:
            raise ValueError(f"max_shift: {max_shift} is not in [0, 1): a share of the image's height and width")
        if classes is not None and (not classes or ignore_index in classes):
            raise ValueError(
                f"classes: {list(classes)} has {'void' if classes else 'nothing'}; give the classes to paste"
            )
        self.ignore_index = ignore_index
        self.classes = None if classes is None else list(classes)
        self.max_shift = max_shift

    def paste(
        self, image: Image, mask: Mask, other_image: Image, other_mask: Mask, *, rng: np.random.Generator
    ) -> None:
        """Write the pixels of the other mask's objects."""
        if rng.random() < 0.5:
            other_image, other_mask = other_image[:, ::-1], other_mask[:, ::-1]
        limits = [int(self.max_shift * size) for size in mask.shape]
        shifts = [int(rng.integers(-limit, limit + 1)) for limit in limits]
        to = tuple(_stretch(size, size, size // 2 + shift) for size, shift in zip(mask.shape, shifts, strict=True))
        of = tuple(_stretch(size, size, size // 2 - shift) for size, shift in zip(mask.shape, shifts, strict=True))
        _copy(image[to], mask[to], other_image[of], other_mask[of], where=self._objects(other_mask[of]))

    def _objects(self, mask: Mask) -> NDArray[np.bool_]:
        if self.classes is None:
            return (mask != 0) & (mask != self.ignore_index)
        return np.isin(mask, self.classes)


def _stretch(size: int, length: int, center: int) -> slice:
    """Return what of a stretch of pixels around a centre lies on a line of `size` pixels."""
    start = center - length // 2
    return slice(max(start, 0), max(min(start + length, size), 0))


def _copy(image: Image, mask: Mask, other_image: Image, other_mask: Mask, *, where: NDArray[np.bool_]) -> None:
    """Write the pixels `where` (H, W) of the other image and mask; OpenCV takes a hundredth of NumPy's time."""
    chosen = np.ascontiguousarray(where).view(np.uint8)
    cv2.copyTo(np.ascontiguousarray(other_image), chosen, image)
    cv2.copyTo(np.ascontiguousarray(other_mask), chosen, mask)
