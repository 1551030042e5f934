"""Is a random scale crop a window of the resized image, drawn evenly, with void around it and classes seen to?"""

import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.augmentation import Augmentation
from segtrain.data.crop import RandomScaleCrop

VOID = 255


def smooth(height: int, width: int, *, channels: int = 3, dtype: type = np.uint8) -> NDArray[Any]:
    """Return an image of soft shapes, so that a sampling position that is off shows as a wrong value."""
    noise = np.random.default_rng(0).random((height, width, channels))
    blurred = np.dstack([cv2.GaussianBlur(noise[..., channel], (0, 0), 3) for channel in range(channels)])
    scaled = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    return (255 * scaled).astype(np.uint8) if dtype == np.uint8 else scaled.astype(np.float32)


def labels(height: int, width: int, dtype: type = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, 7, (height, width)).astype(dtype)


def window_of(crop: RandomScaleCrop, mask: NDArray[Any]) -> tuple[int, int, int, int]:
    window: tuple[int, int, int, int] = crop.get_params_dependent_on_data({}, {"mask": mask})["window"]
    return window


@pytest.mark.parametrize("channels", [1, 3, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("window", [(32, 64, 64, 64), (48, 16, 16, 16), (12, 24, 24, 24)], ids=["1/2", "2", "4/3"])
def test_a_crop_is_that_of_the_whole_image_resized(
    channels: int, dtype: type, window: tuple[int, int, int, int]
) -> None:
    image, crop = smooth(144, 144, channels=channels, dtype=dtype), RandomScaleCrop(32, 32)
    top, left, size, _ = window
    whole = cv2.resize(image, (144 * 32 // size,) * 2, interpolation=cv2.INTER_LINEAR).reshape(
        144 * 32 // size, -1, channels
    )
    y, x = top * 32 // size, left * 32 // size
    found = crop.apply(image, window=window)
    assert found.shape == (32, 32, channels)
    assert found.dtype == dtype
    inner = (slice(2, -2), slice(2, -2))  # beside the window's border its neighbours are unknown
    difference = np.abs(found.astype(float) - whole[y : y + 32, x : x + 32].astype(float))[inner]
    assert difference.max() <= (1 if dtype == np.uint8 else 1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("size", [16, 20, 31, 32, 45, 64])
def test_the_mask_takes_the_label_at_each_pixels_centre(dtype: type, size: int) -> None:
    crop, window = RandomScaleCrop(32, 24), (5, 7, size, size)
    row_numbers, column_numbers = np.indices((80, 90)).astype(dtype)
    rows, columns = (crop.apply_to_mask(numbers, window=window) for numbers in (row_numbers, column_numbers))
    assert rows.dtype == dtype
    assert rows.shape == columns.shape == (32, 24)
    # source pixel r covers r to r + 1; a centre on the border of two pixels may take either
    assert np.abs(rows + 0.5 - (5 + (np.arange(32) + 0.5) * size / 32)[:, None]).max() <= 0.5
    assert np.abs(columns + 0.5 - (7 + (np.arange(24) + 0.5) * size / 24)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("dtype", "void"), [(np.uint8, 255), (np.int32, -1), (np.int32, 65535)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_small_image_lies_anywhere_in_a_large_crop_and_the_rest_is_void(
    dtype: type, void: int, channels: int
) -> None:
    image, mask = np.full((20, 30, channels), 9, np.uint8), np.full((20, 30), 3, dtype)
    augmentation = Augmentation([RandomScaleCrop(40, 48, scale_range=(1, 1))], ignore_index=void)
    corners = set()
    for seed in range(300):
        padded, padded_mask = augmentation(image, mask, seed=seed)
        assert padded.shape == (40, 48, channels)
        assert padded_mask.dtype == dtype
        valid = padded_mask == 3
        assert valid.sum() == 600
        assert (padded_mask[~valid] == void).all()
        assert (padded[valid] == 9).all()
        assert (padded[~valid] == 0).all()
        corners.add(tuple(np.argwhere(valid)[0]))
    assert {y for y, _ in corners} == set(range(21))
    assert {x for _, x in corners} == set(range(19))


def test_padding_scales_with_the_image() -> None:
    image, mask = np.full((20, 100, 3), 9, np.uint8), np.ones((20, 100), np.uint8)
    augmentation = Augmentation([RandomScaleCrop(32, 32, scale_range=(0.5, 0.5))], ignore_index=VOID)
    _, cropped = augmentation(image, mask, seed=0)
    assert (cropped == 1).sum() == 10 * 32
    for top in range(-127, 1):  # a line of a quarter of a pixel is still there
        assert 1 in RandomScaleCrop(32, 32).apply_to_mask(mask[:1], window=(top, 0, 128, 100))


def test_factors_are_uniform_in_their_range() -> None:
    crop, mask = RandomScaleCrop(64, 64, scale_range=(0.5, 2.0)), labels(200, 200)
    crop.set_random_seed(0)
    factors = np.array([64 / window_of(crop, mask)[2] for _ in range(4000)])
    counts, _ = np.histogram(factors, bins=6, range=(0.49, 2.01))
    np.testing.assert_allclose(counts / len(factors), 1 / 6, atol=0.03)


def test_every_place_is_drawn_equally_often() -> None:
    crop, mask = RandomScaleCrop(8, 8, scale_range=(1, 1)), labels(12, 11)
    crop.set_random_seed(0)
    windows = [window_of(crop, mask) for _ in range(6000)]
    for axis, places in ((0, 5), (1, 4)):
        starts = np.bincount([window[axis] for window in windows], minlength=places)
        assert len(starts) == places
        np.testing.assert_allclose(starts / len(windows), 1 / places, atol=0.025)
    assert {window[2:] for window in windows} == {(8, 8)}


def test_crops_that_one_class_fills_are_drawn_again() -> None:
    mask = np.zeros((64, 256), np.uint8)
    mask[:, 192:] = 1 + np.arange(64) % 2  # only the right quarter has more than one class
    mask[:32, 200:216] = VOID

    def shares(max_share: float) -> NDArray[np.float64]:
        crop = RandomScaleCrop(32, 32, scale_range=(0.8, 1.2), max_share=max_share, tries=40, fill_mask=VOID)
        crop.set_random_seed(0)
        found = []
        for _ in range(200):
            part = crop.apply_to_mask(mask, window=window_of(crop, mask))
            found.append(np.bincount(part[part != VOID]).max() / (part != VOID).sum())
        return np.array(found)

    assert (shares(1.0) > 0.75).mean() > 0.5
    assert (shares(0.75) <= 0.75).mean() > 0.98
    assert (shares(0.01) <= 0.75).mean() > 0.98  # no crop is that even: the best of all tries is taken


def test_a_mask_of_one_class_or_of_void_alone_still_gives_a_crop() -> None:
    for label in (0, VOID):
        crop = RandomScaleCrop(8, 8, max_share=0.5, rare_share=1.0, fill_mask=VOID)
        result = crop(image=np.zeros((30, 30, 3), np.uint8), mask=np.full((30, 30), label, np.uint8))
        assert set(np.unique(result["mask"])) <= {label, VOID}


def test_crops_around_a_class_contain_it_wherever_it_is() -> None:
    for row, column, least_places in ((0, 0, 1), (50, 70, 200), (99, 119, 1), (0, 60, 30)):
        mask = np.full((100, 120), VOID, np.uint8)
        mask[row, column] = 4
        crop = RandomScaleCrop(20, 20, scale_range=(0.5, 2.0), rare_share=1.0, fill_mask=VOID)
        crop.set_random_seed(3)
        places = set()
        for _ in range(300):
            top, left, height, width = window_of(crop, mask)
            assert 0 <= top <= row < top + height <= 100
            assert 0 <= left <= column < left + width <= 120
            places.add((row - top, column - left))
        assert len(places) >= least_places  # it is not always in the middle


def test_classes_are_drawn_evenly_and_void_is_none_of_them() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:10, :10], mask[90:, 90:], mask[40:60] = 1, 2, VOID
    crop = RandomScaleCrop(10, 10, scale_range=(1, 1), rare_share=1.0, fill_mask=VOID)
    crop.set_random_seed(0)
    drawn = [int(mask.flat[crop._pixels_of_one_class(mask)[0]]) for _ in range(900)]  # type: ignore[index]
    np.testing.assert_allclose(np.bincount(drawn) / 900, 1 / 3, atol=0.05)


def test_half_of_the_crops_can_be_left_to_chance() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[100, 100] = 1
    crop = RandomScaleCrop(10, 10, scale_range=(1, 1), rare_share=0.5, fill_mask=VOID)
    crop.set_random_seed(0)
    hits = [1 in crop.apply_to_mask(mask, window=window_of(crop, mask)) for _ in range(800)]
    assert 0.2 < np.mean(hits) < 0.3  # half of the half that is around one of two classes


def test_the_draws_are_those_of_the_given_generators() -> None:
    image, mask = smooth(50, 60), labels(50, 60)
    crop = RandomScaleCrop(32, 32, max_share=0.2, rare_share=0.5)
    results = []
    for seed in (1, 1, 2):
        random.seed(len(results))
        np.random.seed(len(results))
        crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
        results.append(crop(image=image, mask=mask)["image"].tobytes())
    assert results[0] == results[1] != results[2]


def test_a_crop_without_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="missing keys"):
        RandomScaleCrop(8, 8)(image=np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"height": 0}, "a crop of 0x8 pixels is empty"),
        ({"scale_range": (2.0, 0.5)}, r"scale_range: \[2.0, 0.5\] is not a lowest and a highest factor above 0"),
        ({"scale_range": (-0.5, 1.0)}, "scale_range: "),
        ({"scale_range": (1.0,)}, "scale_range: "),
        ({"max_share": 0.0}, r"max_share: 0.0 is not in \(0, 1\]"),
        ({"rare_share": 1.5}, r"rare_share: 1.5 is not in \[0, 1\]"),
        ({"tries": 0}, "tries: 0 places are none"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RandomScaleCrop(**{"height": 8, "width": 8, **arguments})


def test_an_argument_that_there_is_not_is_an_error() -> None:
    with pytest.raises(TypeError, match="scale_limit"):
        RandomScaleCrop(8, 8, scale_limit=0.5)  # type: ignore[call-arg]
    assert issubclass(RandomScaleCrop, A.DualTransform)
