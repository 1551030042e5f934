"""Why can a file not be used? Told by its bytes, not by what a reader says about it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segtrain.data.images import jpeg_is_whole, read_channels
from segtrain.data.masks import read_values
from segtrain.data.tiff import read_pages
from segtrain.errors import DataError

PNG, JPEG, BMP, NPY = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PLACES, LENGTHS = (273, 324), (279, 325)  # of a TIFF's strips and tiles (TIFF 6.0, sections 8 and 15)


def image_fault(files: Sequence[Path], *, channels: int) -> tuple[str, Path]:
    """Return the kind of what is wrong with an image that its reader refused, and the file.

    Args:
        files: one, or those of a stack.
        channels: that the image should have.
    """
    layers = []
    for path in files:
        if kind := _absent(path):
            return kind, path
        try:
            layers.append(read_channels(path))
        except DataError:
            return _damage(path), path
    counts = [layer.shape[2] for layer in layers]
    fits = sum(counts) == channels or (channels == 3 and len(counts) == 1 and counts[0] <= 4)
    for layer, path in zip(layers, files, strict=True):
        if layer.shape[:2] != layers[0].shape[:2]:
            return "parts_differ", path
        if layer.dtype.kind == "f" and not np.isfinite(layer).all():
            return "not_finite", path
    return ("values" if fits else "channels"), files[0]


def mask_fault(files: Sequence[Path], *, kind: str) -> tuple[str, Path]:
    """Return the kind of what is wrong with a mask that its reader refused, and the file.

    Args:
        files: one, or several that are united.
        kind: what masks hold, as in `dataset.mask`.
    """
    layers = []
    for path in files:
        if fault := _absent(path):
            return fault, path
        if path.suffix.lower() == ".json":
            return "polygons", path
        with path.open("rb") as file:
            if file.read(3) == JPEG:
                return "jpeg_mask", path
        try:
            values = read_values(path)
        except DataError:
            return _damage(path), path
        if (values.ndim == 3) != (kind == "colors") and kind in ("ids", "colors"):
            return ("rgb_mask" if values.ndim == 3 else "grey_mask"), path
        if values.ndim == 3 and kind == "colors":
            return "unknown_color", path
        layers.append(values)
    odd = [path for layer, path in zip(layers, files, strict=True) if layer.shape != layers[0].shape]
    return "parts_differ", (odd or files)[0]


def describe(kind: str, file: str) -> str:
    """Return what the bytes of a file show, where that says more than its reader can; else nothing."""
    if kind == "empty_file":
        return "has no bytes"
    if kind == "truncated":
        return f"has {Path(file).stat().st_size:,} bytes, and its end is missing"
    if kind == "no_image":
        with Path(file).open("rb") as opened:
            return f"begins with {opened.read(12)!r}, as no image does"
    return ""


def colors_of(path: Path, *, most: int) -> dict[tuple[int, int, int], int]:
    """Return {colour: pixels} of an RGB file's most frequent colours."""
    values = read_values(path).astype(np.int64)
    codes, counts = np.unique(values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return {
        (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255): int(count)
        for code, count in zip(codes[order], counts[order], strict=True)
    }


def orientation_of(path: Path) -> int | None:
    """Return the EXIF orientation of an image file, where it has one other than 1 (upright)."""
    try:
        with Image.open(path) as image:
            if image.format == "PNG" and "exif" not in image.info:
                return None  # Pillow would decode all of it to look behind the pixels
            value = image.getexif().get(274)
    except Exception:  # what Pillow cannot read has no orientation that it would apply
        return None
    return value if isinstance(value, int) and 2 <= value <= 8 else None


def _absent(path: Path) -> str:
    if not path.is_file():
        return "missing_file"
    return "empty_file" if path.stat().st_size == 0 else ""


def _damage(path: Path) -> str:
    """Tell a file that ends too early from one that is damaged or of no known kind."""
    data = path.read_bytes()
    if data.startswith(PNG):
        whole = b"IEND" in data[-64:]
    elif data.startswith(JPEG):
        whole = jpeg_is_whole(data)
    elif data.startswith(BMP):
        whole = int.from_bytes(data[2:6], "little") <= len(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        whole = 8 + int.from_bytes(data[4:8], "little") <= len(data)
    elif data.startswith(TIFF):
        whole = _tiff_is_whole(path, len(data))
    elif data.startswith(NPY):
        whole = _array_is_whole(path, len(data))
    else:
        return "no_image"
    return "unreadable" if whole else "truncated"


def _tiff_is_whole(path: Path, size: int) -> bool:
    try:
        pages = read_pages(path)
    except DataError:
        return False
    ends = [
        place + length
        for header in pages
        for places, lengths in zip(PLACES, LENGTHS, strict=True)
        for place, length in zip(header.get(places, ()), header.get(lengths, ()), strict=False)
    ]
    return bool(ends) and max(ends) <= size


def _array_is_whole(path: Path, size: int) -> bool:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            return file.tell() + int(np.prod(shape)) * dtype.itemsize <= size
    except (ValueError, OSError):
        return False
