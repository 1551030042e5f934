"""Does a mask belong to its image, and has it only known labels?"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from segtrain.config.suggest import listed
from segtrain.data.images import Image
from segtrain.errors import DataError


def check_sample(
    image: Image,
    mask: NDArray[np.integer],
    *,
    image_name: str,
    mask_name: str,
    num_classes: int,
    ignore_index: int,
) -> None:
    """Check that a mask belongs to its image and has only known labels.

    Raises:
        DataError: naming the file, the values and how many pixels have them.
    """
    if image.dtype not in (np.uint8, np.float32) or image.ndim != 3:
        raise DataError(
            f"{image_name}: an image is uint8 (H, W, channels), or float32 in 0 to 1, and this is {image.dtype} "
            f"{image.shape}"
        )
    if mask.shape != image.shape[:2]:
        size, other = (f"{shape[1]}x{shape[0]}" for shape in (mask.shape, image.shape))
        raise DataError(f"{mask_name}: the mask is {size} and its image {image_name} is {other}; they must agree")
    outside = ((mask >= num_classes) | (mask < 0)) & (mask != ignore_index)
    if not outside.any():
        return
    values, counts = np.unique(mask[outside], return_counts=True)
    found = listed([f"{value} ({count} pixels)" for value, count in zip(values, counts, strict=True)], 6)
    labels = [value for value in np.unique(mask).tolist() if value != ignore_index]
    raise DataError(
        f"{mask_name}: labels outside 0 to {num_classes - 1} and not dataset.ignore_index={ignore_index}: "
        f"{found}; {habit_of(labels, num_classes).value}"
    )


class Habit(Enum):
    """What else than class ids a mask's values can be; the value is what makes class ids of them."""

    BINARY = "if 255 is the object, give dataset.mask=binary, or dataset.label_map={255: 1}"
    FROM_ONE = "the ids start at 1: give dataset.reduce_zero_label=true, if 0 is void"
    UNKNOWN = "correct dataset.num_classes, dataset.ignore_index or dataset.label_map"


def habit_of(values: list[int], num_classes: int) -> Habit:
    """Return what these values of a mask seem to be, if they are no class ids.

    Args:
        values: all that the mask has but void, ascending.
        num_classes: C.
    """
    if values in ([255], [0, 255]) and num_classes == 2:
        return Habit.BINARY
    if values and values[-1] == num_classes and 0 not in values:
        return Habit.FROM_ONE
    return Habit.UNKNOWN
