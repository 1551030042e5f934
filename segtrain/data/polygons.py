"""Areas as COCO writes them, as pixels: polygons and run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Area = NDArray[np.bool_]


def fill_polygon(points: NDArray[np.float64], height: int, width: int) -> Area:
    """Return the pixels (H, W) whose middle is inside a polygon, by the even-odd rule.

    Args:
        points: (P, 2), x and y of the corners; the pixel in row r and column c covers c to c + 1 and r to r + 1.
        height: H.
        width: W.
    """
    crossings = np.zeros((height, width + 1), np.bool_)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = np.clip(np.ceil(np.sort([y0, y1]) - 0.5), 0, height).astype(int)
        rows = np.arange(low, high)  # whose middle line the edge crosses
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    inside = np.zeros((height, width), np.bool_)
    left, top = np.clip(np.floor(points.min(axis=0)), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, [width, height]).astype(int)
    inside[top:bottom, left:right] = np.logical_xor.accumulate(crossings[top:bottom, left:right], axis=1)
    return inside


def area_of(segmentation: Any, height: int, width: int) -> Area:
    """Return the pixels (H, W) of a COCO segmentation: a list of polygons, or run lengths, compressed or not.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"run lengths of {segmentation['size']} in an image of {[height, width]} (height, width)")
        counts = segmentation["counts"]
        runs = _decompress(counts) if isinstance(counts, str) else [int(count) for count in counts]
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise ValueError(f"run lengths for {sum(runs)} pixels in an image of {height * width}")
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # in turn out and in, column by column
        return inside.reshape(width, height).T
    area = np.zeros((height, width), np.bool_)
    for polygon in segmentation:
        points = np.asarray(polygon, np.float64)
        if points.ndim != 1 or points.size < 6 or points.size % 2 or not np.isfinite(points).all():
            raise ValueError("a polygon is x1, y1, x2, y2, ... of three corners or more")
        area |= fill_polygon(points.reshape(-1, 2), height, width)
    return area


def _decompress(text: str) -> list[int]:
    """Return the runs of a compressed string: 5 bits a character, from the third run on less the one two before."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is in no run length")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last of this number, whose highest bit is the sign
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("the run lengths end in the middle of a number")
    return runs


def paint(areas: Sequence[tuple[int, Area]], height: int, width: int) -> NDArray[np.int32]:
    """Return class ids (H, W): the areas of (class, pixels), the smaller over the larger, and 0 elsewhere."""
    mask = np.zeros((height, width), np.int32)
    for label, area in sorted(areas, key=lambda pair: -int(pair[1].sum())):
        mask[area] = label
    return mask
