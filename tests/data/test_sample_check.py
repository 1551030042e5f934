"""Is a mask that does not belong to its image, or has unknown labels, refused with a remedy?"""

import numpy as np
import pytest

from segtrain.data.sample_check import check_sample
from segtrain.errors import DataError


def check(mask: np.ndarray, *, num_classes: int = 3, ignore_index: int = 255) -> None:
    image = np.zeros((3, 4, 3), np.uint8)
    check_sample(image, mask, image_name="a.jpg", mask_name="a.png", num_classes=num_classes, ignore_index=ignore_index)


@pytest.mark.parametrize(("ignore_index", "dtype"), [(255, np.uint8), (3, np.uint8), (-1, np.int32), (65535, np.int32)])
def test_classes_and_void_are_accepted(ignore_index: int, dtype: type[np.integer]) -> None:
    check(np.array([[0, 1, 2, ignore_index]] * 3, dtype), ignore_index=ignore_index)


@pytest.mark.parametrize("ignore_index", [-1, 300])
def test_void_may_be_more_than_the_type_of_the_mask_holds(ignore_index: int) -> None:
    check(np.array([[0, 1, 2, 0]] * 3, np.uint8), ignore_index=ignore_index)
    with pytest.raises(DataError, match=r": 255 \(3 pixels\)"):
        check(np.array([[0, 1, 2, 255]] * 3, np.uint8), ignore_index=ignore_index)


def test_labels_outside_the_classes_are_refused_with_file_value_and_count() -> None:
    mask = np.array([[0, 1, 2, 255], [3, 3, 7, 0], [0, 0, 0, 0]], np.uint8)
    with pytest.raises(
        DataError, match=r"^a\.png: labels outside 0 to 2 .*ignore_index=255: 3 \(2 pixels\), 7 \(1 pixels\);"
    ):
        check(mask)


def test_negative_labels_are_refused_with_file_value_and_count() -> None:
    with pytest.raises(DataError, match=r"^a\.png: .*-1 \(4 pixels\)"):
        check(np.array([[0, 1, 2, 0], [-1] * 4, [0] * 4], np.int32))


def test_a_mask_of_another_size_is_refused_with_both_files_and_sizes() -> None:
    with pytest.raises(DataError, match=r"^a\.png: the mask is 3x4 and its image a\.jpg is 4x3"):
        check(np.zeros((4, 3), np.uint8))


@pytest.mark.parametrize(
    ("values", "num_classes", "ignore_index", "remedy"),
    [
        ([0, 255], 2, 254, r"if 255 is the object, give dataset\.mask=binary, or dataset\.label_map=\{255: 1\}"),
        ([1, 2, 3], 3, 255, r"the ids start at 1: give dataset\.reduce_zero_label=true"),
        ([1, 2, 3, 255], 3, 255, r"the ids start at 1: give dataset\.reduce_zero_label=true"),
        ([0, 1, 9], 3, 255, r"correct dataset\.num_classes, dataset\.ignore_index or dataset\.label_map"),
    ],
)
def test_the_remedy_follows_from_the_values(
    values: list[int], num_classes: int, ignore_index: int, remedy: str
) -> None:
    mask = np.resize(np.array(values, np.uint8), (3, 4))
    with pytest.raises(DataError, match=remedy):
        check(mask, num_classes=num_classes, ignore_index=ignore_index)
