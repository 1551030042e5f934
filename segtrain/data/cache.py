"""Decoded samples that lie in memory, or in a file mapped into it; forked worker processes share them."""

from typing import Any, NamedTuple

import numpy as np

from segtrain.data.masks import Mask
from segtrain.data.pairs import Sample


class Place(NamedTuple):
    """Where an array lies: number of the block, first byte, shape and type."""

    block: int
    start: int
    shape: tuple[int, ...]
    dtype: str


class Cache:
    """Images and masks by index, read-only.

    Args:
        blocks: of bytes.
        places: of the image and the mask of each sample.
    """

    def __init__(self, blocks: list[Any], places: list[tuple[Place, Place]]) -> None:
        self.blocks = [memoryview(block).toreadonly() for block in blocks]
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Return the image and the mask of a sample; nothing is copied."""
        image, mask = self.places[index]
        return self._view(image), self._view(mask)

    def mask(self, index: int) -> Mask:
        """Return the mask of a sample."""
        return self._view(self.places[index][1])

    def _view(self, place: Place) -> Any:
        count = int(np.prod(place.shape))
        flat = np.frombuffer(self.blocks[place.block], place.dtype, count, place.start)
        return flat.reshape(place.shape)
