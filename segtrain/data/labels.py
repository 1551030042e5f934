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
        reduce_zero_label: 0 becomes void and everything else one less, before `mapping` (mmsegmentation's word).
    """

    def __init__(
        self,
        mapping: Mapping[int, int | None] | None = None,
        *,
        ignore_index: int,
        reduce_zero_label: bool = False,
    ) -> None:
        self.mapping = {
            int(value): ignore_index if label is None else int(label) for value, label in (mapping or {}).items()
        }
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        table = np.arange(TABLE, dtype=np.int32)
        if reduce_zero_label:
            table = table - 1
            table[0] = ignore_index
        moved = table.copy()
        for value, label in self.mapping.items():
            moved[table == value] = label
        self.table = moved
        self.is_identity = bool((moved == np.arange(TABLE)).all()) and not any(
            v >= TABLE or v < 0 for v in self.mapping
        )

    def __call__(self, mask: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the mask (H, W) with its values replaced."""
        if self.is_identity:
            return mask
        low, high = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
        if low >= 0 and high < TABLE:
            return self.table[mask]
        values, inverse = np.unique(mask, return_inverse=True)  # such as Cityscapes' -1 and instance numbers
        return np.array([self._one(int(value)) for value in values], np.int32)[inverse].reshape(mask.shape)

    def _one(self, value: int) -> int:
        if 0 <= value < TABLE:
            return int(self.table[value])
        shifted = value - 1 if self.reduce_zero_label and value > 0 else value
        return self.mapping.get(shifted, shifted)
