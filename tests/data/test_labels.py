"""Are labels replaced as NumPy replaces them by hand?"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.labels import LabelMap

DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.int64]


def values(dtype: Any, high: int = 20) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, high, (7, 9)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_classes_are_merged_and_dropped_and_others_stay(dtype: Any) -> None:
    mask = values(dtype)
    expected = np.where(np.isin(mask, [3, 4, 5]), 1, np.where(mask == 7, 255, mask))
    np.testing.assert_array_equal(LabelMap({3: 1, 4: 1, 5: 1, 7: None}, ignore_index=255)(mask), expected)


def test_two_classes_can_change_places() -> None:
    mask = values(np.uint8, 3)
    expected = np.where(mask == 0, 1, np.where(mask == 1, 0, mask))
    np.testing.assert_array_equal(LabelMap({0: 1, 1: 0}, ignore_index=255)(mask), expected)


@pytest.mark.parametrize("ignore_index", [255, -1, 300, 65535, 100_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_void_may_be_any_number(ignore_index: int, dtype: Any) -> None:
    mask = values(dtype)
    expected = np.where(mask == 2, ignore_index, mask.astype(int))
    np.testing.assert_array_equal(LabelMap({2: None}, ignore_index=ignore_index)(mask), expected)


def test_negative_and_huge_values_are_replaced_too() -> None:
    mask = np.array([[-1, 0, 5], [70_000, 26_001, 2**40], [-7, 65_535, 65_536]])
    mapped = LabelMap({-1: None, 70_000: 3, 2**40: 4, 65_536: 2, 26_001: 1}, ignore_index=255)(mask)
    assert mapped.tolist() == [[255, 0, 5], [3, 1, 4], [-7, 65_535, 2]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reduced_zero_is_void_and_everything_else_one_less(dtype: Any) -> None:
    mask = values(dtype)
    expected = np.where(mask == 0, 255, mask.astype(int) - 1)
    np.testing.assert_array_equal(LabelMap(ignore_index=255, reduce_zero_label=True)(mask), expected)


def test_reduced_zero_leaves_void_of_255_and_negative_values() -> None:
    label_map = LabelMap(ignore_index=255, reduce_zero_label=True)
    assert label_map(np.array([[0, 1, 254, 255]], np.uint8)).tolist() == [[255, 0, 253, 255]]  # as mmsegmentation
    assert label_map(np.array([[0, 1, 255, 256, 70_000, -3]])).tolist() == [[255, 0, 255, 255, 69_999, -3]]


def test_reduced_zero_comes_before_the_mapping() -> None:
    mask = np.array([[0, 1, 2, 3, 4]], np.uint8)  # reduced: void, 0, 1, 2, 3
    mapped = LabelMap({1: 0, 3: None}, ignore_index=11, reduce_zero_label=True)(mask)
    assert mapped.tolist() == [[11, 0, 0, 2, 11]]


def test_a_void_inside_the_values_of_the_file_is_a_class_before_it_is_reduced() -> None:
    mask = np.array([[0, 1, 11]], np.uint8)  # 11 classes, 1 to 11, and ignore_index 11
    assert LabelMap(ignore_index=11, reduce_zero_label=True)(mask).tolist() == [[11, 0, 10]]


def test_bytes_stay_bytes_where_the_labels_allow_it() -> None:
    mask = values(np.uint8)
    assert LabelMap({1: None}, ignore_index=255)(mask).dtype == np.uint8
    assert LabelMap({1: None}, ignore_index=300)(mask).dtype != np.uint8


@pytest.mark.parametrize("mapping", [None, {}, {4: 4}])
def test_a_map_that_changes_nothing_returns_the_mask_itself(mapping: dict[int, int | None] | None) -> None:
    mask = values(np.uint8)
    assert LabelMap(mapping, ignore_index=255)(mask) is mask


def test_an_empty_mask_stays_empty() -> None:
    assert LabelMap({1: 2}, ignore_index=255)(np.zeros((0, 3), np.int64)).shape == (0, 3)


@pytest.mark.parametrize("mapping", [{"car": 1}, {1: "car"}, {1.5: 1}, {1: [2]}])
def test_a_mapping_of_anything_but_numbers_is_refused(mapping: Any) -> None:
    with pytest.raises(ValueError, match=r"^label_map: \{.*\} is not \{value in the file: class"):
        LabelMap(mapping, ignore_index=255)
