"""Do augmentations depend on the seed alone, keep image and mask together, and pad with void?"""

import warnings
from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.augmentation import Augmentation

VOID = 11


def picture(height: int = 40, width: int = 56) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image whose red is 20 times the class of its pixel, and the mask with classes 1 to 5."""
    rng = np.random.default_rng(0)
    mask = rng.integers(1, 6, (height // 8, width // 8), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    image = rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    image[..., 0] = 20 * mask
    return image, mask


def standard(size: int = 32) -> list[A.BasicTransform]:
    return [
        A.RandomScale(scale_limit=(-0.5, 1.0), p=1.0),
        A.RandomCrop(size, size, pad_if_needed=True),
        A.HorizontalFlip(p=0.5),
        A.OneOf([A.ColorJitter(p=1.0), A.GaussNoise(p=1.0)], p=0.7),
    ]


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before() -> None:
    first, second = Augmentation(standard(), ignore_index=VOID), Augmentation(standard(), ignore_index=VOID)
    for seed in (5, 6, 7):
        second(*picture(), seed=seed)
    np.random.seed(1)  # the global generator must not matter
    for seed in (0, 7, 2**32 - 1):
        for one, other in zip(first(*picture(), seed=seed), second(*picture(), seed=seed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_different_seeds_give_different_images() -> None:
    augmentation = Augmentation(standard(), ignore_index=VOID)
    assert len({augmentation(*picture(), seed=seed)[0].tobytes() for seed in range(20)}) == 20


def test_the_draws_of_two_transforms_have_nothing_to_do_with_each_other() -> None:
    image, mask = np.arange(4, dtype=np.uint8).reshape(2, 2, 1), np.zeros((2, 2), np.uint8)
    nested = A.OneOf([A.Sequential([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])], p=1)
    for transforms in ([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], [nested]):
        augmentation = Augmentation(transforms, ignore_index=VOID)
        seen = [augmentation(image, mask, seed=seed)[0].ravel().tolist() for seed in range(400)]
        shares = [seen.count(turned) / 400 for turned in ([0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0])]
        np.testing.assert_allclose(shares, 0.25, atol=0.07)


def test_the_input_is_not_changed() -> None:
    image, mask = picture()
    augmentation = Augmentation([A.PadIfNeeded(80, 80), A.HorizontalFlip(p=1), A.ColorJitter(p=1)], ignore_index=VOID)
    augmentation(image, mask, seed=0)
    for array, original in zip((image, mask), picture(), strict=True):
        np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("flip", [A.HorizontalFlip, A.VerticalFlip, A.Transpose])
def test_flips_are_numpys(flip: Callable[..., A.BasicTransform]) -> None:
    image, mask = picture()
    flipped, flipped_mask = Augmentation([flip(p=1.0)], ignore_index=VOID)(image, mask, seed=0)
    numpys: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "HorizontalFlip": np.fliplr,
        "VerticalFlip": np.flipud,
        "Transpose": lambda array: array.swapaxes(0, 1),
    }
    expected = numpys[flip.__name__]
    np.testing.assert_array_equal(flipped, expected(image))
    np.testing.assert_array_equal(flipped_mask, expected(mask))


@pytest.mark.parametrize("seed", range(10))
def test_image_and_mask_stay_together_and_no_new_label_appears(seed: int) -> None:
    transforms = [
        A.RandomScale(scale_limit=(0.5, 1.0), p=1.0),
        A.RandomCrop(64, 64, pad_if_needed=True),
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
    ]
    image, mask = Augmentation(transforms, ignore_index=VOID)(*picture(), seed=seed)
    assert set(np.unique(mask)) <= {1, 2, 3, 4, 5, VOID}
    valid = mask != VOID
    # image pixels between two blocks are mixtures; in the middle of a block they name the class
    fits = np.abs(image[..., 0].astype(int) - 20 * mask.astype(int)) <= 10
    assert fits[valid].mean() > 0.75


PADDING: dict[str, A.BasicTransform | A.BaseCompose] = {
    "PadIfNeeded": A.PadIfNeeded(80, 80),
    "RandomCrop": A.RandomCrop(80, 80, pad_if_needed=True),
    "CropAndPad": A.CropAndPad(px=8, p=1),
    "Affine": A.Affine(rotate=(45, 45), p=1),
    "Rotate": A.Rotate((45, 45), p=1),
    "inside OneOf": A.OneOf([A.Sequential([A.PadIfNeeded(80, 80)])], p=1),
}


@pytest.mark.parametrize("transform", PADDING.values(), ids=PADDING.keys())
def test_padding_is_void_in_the_mask(transform: A.BasicTransform) -> None:
    image, mask = np.full((40, 40, 3), 200, np.uint8), np.full((40, 40), 3, np.uint8)
    padded, padded_mask = Augmentation([transform], ignore_index=VOID)(image, mask, seed=0)
    assert padded.shape[:2] == padded_mask.shape
    assert set(np.unique(padded_mask)) == {3, VOID}
    outside = (padded == 0).all(axis=2)
    assert (padded_mask[outside] == VOID).mean() > 0.95  # interpolation blurs the border of a rotated image


@pytest.mark.parametrize("ignore_index", [-1, 300, 65535])
def test_padding_of_a_wide_mask_can_be_any_void_label(ignore_index: int) -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.int32)
    _, padded = Augmentation([A.PadIfNeeded(16, 16)], ignore_index=ignore_index)(image, mask, seed=0)
    assert set(np.unique(padded)) == {1, ignore_index}


@pytest.mark.parametrize("make", [lambda: A.HorizontalFlip(probability=1), lambda: A.PadIfNeeded(8, 8, mask_value=255)])
def test_an_argument_that_a_transform_does_not_have_is_an_error(make: Callable[[], A.BasicTransform]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Albumentations itself only warns
        transform = make()
    with pytest.raises(ValueError, match="not valid for transform"):
        Augmentation([transform], ignore_index=VOID)


def test_no_transforms_change_nothing() -> None:
    for array, original in zip(Augmentation([], ignore_index=VOID)(*picture(), seed=0), picture(), strict=True):
        np.testing.assert_array_equal(array, original)
