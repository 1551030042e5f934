"""What is in one sample: its faults, sizes, sums, labels and content, read once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import read_channels
from segtrain.data.labels import LabelMap
from segtrain.data.source import files_of, names_of
from segtrain.dataset_check.file_faults import colors_of, describe, image_fault, mask_fault, orientation_of
from segtrain.dataset_check.record import MOST_COLORS, Fault, ImageFacts, MaskFacts, Record
from segtrain.errors import DataError

EXACT = 2**24  # pixels whose count a float32 holds, which OpenCV counts with


@dataclass(frozen=True)
class Reading:
    """How the data set's files are to be read.

    Args:
        labels: from masks' values to labels.
        in_channels: of an image.
        mask_kind: as in `dataset.mask`.
    """

    labels: LabelMap
    in_channels: int
    mask_kind: str = "ids"


def scan_sample(source: Any, split: str, index: int, *, reading: Reading) -> Record:
    """Return the facts of a sample; whatever it raises becomes a fault of its own.

    Args:
        source: a `Source`. With `image(index)` and `mask(index)`, one is read although the other has a fault; with
            `files(index)`, these are looked at to tell what the fault is.
        split: its name.
        index: of the sample.
        reading: how files are read.
    """
    names = names_of(source, index) if hasattr(source, "names") else (f"{split} sample {index}",) * 2
    record = Record(split, index, *names)
    files = files_of(source, index) or ((), ())
    if all(callable(getattr(source, part, None)) for part in ("image", "mask")):
        image = _read(lambda: source.image(index), record, files[0], part="image", reading=reading)
        mask = _read(lambda: source.mask(index), record, files[1], part="mask", reading=reading)
    else:
        pair = _read(lambda: _pair(source[index]), record, (), part="image", reading=reading)
        image, mask = (None, None) if pair is None else pair
    if image is not None and _is_image(image, record):
        record.image = image_facts(image, files[0][0] if files[0] else None)
    if mask is not None and _is_mask(mask, record):
        record.mask = mask_facts(mask, reading.labels)
    return record


def _pair(sample: Any) -> tuple[Any, Any]:
    image, mask = sample
    return image, mask


def _read(
    read: Callable[[], Any], record: Record, files: tuple[Path, ...], *, part: str, reading: Reading
) -> Any | None:
    """Return what is read, or None with the fault remembered: an exception of a user's data set is one too."""
    name = record.image_file if part == "image" else record.mask_file
    try:
        return read()
    except DataError as error:
        kind, text = "refused", str(error)
        if files and part == "image":
            kind, path = image_fault(files, channels=reading.in_channels)
            name = str(path)
            if kind == "channels":
                record.channels = sum(read_channels(file).shape[2] for file in files)
        elif files:
            kind, path = mask_fault(files, kind=reading.mask_kind)
            if kind == "rgb_mask":
                record.colors = colors_of(path, most=MOST_COLORS + 1)  # one more, to tell that there are more
            name = name if kind == "polygons" else str(path)
        record.faults.append(Fault(kind, name, describe(kind, name) or text.removeprefix(f"{name}: ")))
    except Exception as error:
        record.faults.append(Fault("exception", name, f"{type(error).__name__}: {error}"))
    return None


def _is_image(image: Any, record: Record) -> bool:
    """Say whether an image is what training takes; if not, remember why."""
    is_array = isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.float32)
    if not is_array or image.ndim != 3 or not image.size:
        text = f"an image is uint8 (H, W, channels), or float32 in 0 to 1, and this is {_described(image)}"
        record.faults.append(Fault("no_array", record.image_file, text))
        return False
    if image.dtype == np.float32 and not np.isfinite(image).all():
        record.faults.append(Fault("not_finite", record.image_file, "has NaN or infinity"))
        return False
    return True


def _is_mask(mask: Any, record: Record) -> bool:
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "uib" and mask.ndim == 2 and mask.size:
        return True
    record.faults.append(
        Fault("no_array", record.mask_file, f"a mask is (H, W) of integers, and this is {_described(mask)}")
    )
    return False


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def image_facts(image: NDArray[Any], path: Path | None = None) -> ImageFacts:
    """Return the facts of an image (H, W, channels), uint8 or float32."""
    height, width, channels = image.shape
    image = np.ascontiguousarray(image)
    sums: list[Any]
    squares: list[Any]
    if image.dtype == np.uint8:
        bins = _histograms(image)
        sums, squares = (bins @ np.arange(256)).tolist(), (bins @ np.arange(256) ** 2).tolist()
        constant = bool(((bins > 0).sum(axis=1) == 1).all())
    else:
        wide = image.astype(np.float64).reshape(-1, channels)
        sums, squares = wide.sum(axis=0).tolist(), np.einsum("nc,nc->c", wide, wide).tolist()
        constant = bool((wide == wide[0]).all())
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(image.data)
    orientation = None if path is None else orientation_of(path)
    return ImageFacts(
        height, width, channels, str(image.dtype), sums, squares, constant, digest.hexdigest(), orientation
    )


def mask_facts(mask: NDArray[Any], labels: LabelMap) -> MaskFacts:
    """Return the facts of a mask (H, W) of integers."""
    values = _count(mask)
    keys = np.array(list(values), np.int64)
    found: dict[int, int] = {}
    for label, pixels in zip(labels(keys).tolist(), values.values(), strict=True):
        found[label] = found.get(label, 0) + pixels
    small = min(values) >= 0 and max(values) <= 255
    digest = hashlib.blake2b(f"{mask.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(mask, np.uint8 if small else np.int64).data)
    height, width = mask.shape
    return MaskFacts(height, width, digest.hexdigest(), values, dict(sorted(found.items())))


def _histograms(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each channel has each value, (C, 256)."""
    height, width, channels = image.shape
    rows = max(1, EXACT // width)
    bins = np.zeros((channels, 256), np.int64)
    for top in range(0, height, rows):
        for channel in range(channels):
            counted = cv2.calcHist([image[top : top + rows]], [channel], None, [256], [0, 256])
            bins[channel] += counted.ravel().astype(np.int64)
    return bins


def _count(mask: NDArray[Any]) -> dict[int, int]:
    """Return {value: pixels}, ascending."""
    if mask.dtype in (np.uint8, np.bool_):
        counts = _histograms(np.ascontiguousarray(mask, np.uint8)[..., None])[0]
    elif mask.min() >= 0 and mask.max() < 65536:
        counts = np.bincount(mask.ravel())
    else:
        values, numbers = np.unique(mask, return_counts=True)
        return dict(zip(values.tolist(), numbers.tolist(), strict=True))
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
