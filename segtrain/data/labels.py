"""From the values in mask files to class ids: merge, drop to void, shift."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TABLE = 65536  # values that one look-up covers


class LabelMap:
    """Replace the values of a mask.

    Args:
        mapping: {value in the file: class id, or None for void}; values that it does not name stay.
        ignore_index: the label of void.
        reduce_zero_label: 0 becomes void and everything else one less, before `mapping` (mmsegmentation's word and
            order); a void of 255 or more stays.

    Raises:
        ValueError: if the mapping has something else than numbers.
    """

    def __init__(
        self,
        mapping: Mapping[int, int | None] | None = None,
        *,
        ignore_index: int,
        reduce_zero_label: bool = False,
    ) -> None:
        self.mapping: dict[int, int] = {}
        for value, label in (mapping or {}).items():
            if not isinstance(value, int) or not isinstance(label, int | None):
                raise ValueError(
                    f"label_map: {{{value!r}: {label!r}}} is not {{value in the file: class, or null for void}}"
                )
            self.mapping[value] = ignore_index if label is None else label
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        self.table = np.array([self._one(value) for value in range(TABLE)], np.int32)
        self.bytes = self.table[:256].astype(np.uint8)
        self.fits_bytes = bool((self.bytes == self.table[:256]).all())
        beyond = any(not 0 <= value < TABLE for value in self.mapping)
        self.is_identity = not beyond and bool((self.table == np.arange(TABLE)).all())

    def __call__(self, mask: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the mask (H, W) with its values replaced; 8 bits stay 8 bits where the labels allow it."""
        if self.is_identity or not mask.size:
            return mask
        if mask.dtype == np.uint8:
            return self.bytes[mask] if self.fits_bytes else self.table[mask]
        if mask.min() >= 0 and mask.max() < TABLE:
            return self.table[mask]
        values, inverse = np.unique(mask, return_inverse=True)  # such as -1, and numbers of instances
        return np.array([self._one(int(value)) for value in values], np.int64)[inverse].reshape(mask.shape)

    def _one(self, value: int) -> int:
        if self.reduce_zero_label:
            stays = value < 0 or (value == self.ignore_index and value >= 255)
            value = self.ignore_index if value == 0 else value if stays else value - 1
        return self.mapping.get(value, value)
