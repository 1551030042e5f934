"""Read images: 8 and 16 bits, floats, any number of channels, one file or a stack of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.tiff import opencv_reads, read_bands, read_header
from segtrain.errors import DataError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", *TIFF_SUFFIXES, ".npy")
Image = NDArray[np.uint8] | NDArray[np.float32]

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot read becomes a sentence of ours


class ImageReader:
    """Read an image as (H, W, channels): uint8 as it is, everything else as float32 in 0 to 1.

    The EXIF orientation is not applied, so that masks fit.

    Args:
        channels: that an image must have; with 3, a single file that is grey is spread and an alpha channel dropped.
        value_range: (low, high), the values that become 0 and 1, and what is beyond them stays beyond; None for 0 and
            the type's largest (1 for floats).

    Raises:
        ValueError: if the range is none.
    """

    def __init__(self, *, channels: int = 3, value_range: Sequence[float] | None = None) -> None:
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise ValueError(f"value_range: {value_range} is not [low, high] with low below high")
        self.channels = channels
        self.value_range = value_range

    def __call__(self, *paths: Path) -> Image:
        """Return the image of one file, or of several whose channels are stacked in this order.

        Raises:
            DataError: if a file is missing, truncated or no image, or sizes, channels or values are not as they
                should be.
        """
        layers = [read_channels(path) for path in paths]
        if len(layers) == 1 and self.channels == 3:
            layers = [_as_rgb(layers[0])]
        for layer, path in zip(layers, paths, strict=True):
            if layer.shape[:2] != layers[0].shape[:2]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (layer.shape, layers[0].shape)]
                raise DataError(
                    f"{path}: is {sizes[0]} and {paths[0]} of the same stack is {sizes[1]}; they must agree"
                )
        counts = [layer.shape[2] for layer in layers]
        if sum(counts) != self.channels:
            have = " + ".join(map(str, counts))
            raise DataError(
                f"{paths[0]}: has {have} channels and dataset.in_channels is {self.channels}; they must agree"
            )
        if self.value_range is None and all(layer.dtype == np.uint8 for layer in layers):
            return np.concatenate(layers, axis=2) if len(layers) > 1 else layers[0]
        scaled = [self._scale(layer, path) for layer, path in zip(layers, paths, strict=True)]
        return np.concatenate(scaled, axis=2) if len(scaled) > 1 else scaled[0]

    def _scale(self, layer: NDArray[Any], path: Path) -> NDArray[np.float32]:
        low, high = self.value_range if self.value_range is not None else _range_of(layer.dtype, path)
        floats: NDArray[Any] = layer.astype(np.float64 if layer.itemsize > 4 else np.float32)
        scaled = (floats - low) / (high - low)
        least, most = float(scaled.min(initial=0)), float(scaled.max(initial=0))  # NaN if there is one
        if not np.isfinite([least, most]).all():
            raise DataError(
                f"{path}: has values that are not finite (NaN or infinity); fill them, or leave the file out"
            )
        if self.value_range is None and (least < 0 or most > 1):
            raise DataError(
                f"{path}: has {layer.dtype} values from {layer.min():g} to {layer.max():g}; give dataset.value_range="
                "[low, high], the values that become 0 and 1 in all images"
            )
        return scaled.astype(np.float32, copy=False)


def read_channels(path: Path) -> NDArray[Any]:
    """Return a file's values as they are, (H, W, channels), colours as RGB or RGBA.

    Raises:
        DataError: if the file is missing, truncated or no image.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _as_image(read_numpy(path), path)
    if suffix in TIFF_SUFFIXES:
        header = read_header(path)
        if not opencv_reads(header):
            return read_bands(path, header)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if data[:2].tobytes() == b"\xff\xd8" and not jpeg_is_whole(data.tobytes()):
        raise DataError(f"{path}: the JPEG is truncated; copy it again or leave it out")  # cv2 fills it with grey
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{path}: is not an image that OpenCV can read, or is truncated; copy it again or leave it out")
    if image.ndim == 2:
        return np.asarray(image[..., None])
    if image.shape[2] in (3, 4):
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA))
    return np.asarray(image)


def read_numpy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file.

    Raises:
        DataError: if the file is missing, truncated or holds no numbers.
    """
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: is not a NumPy array of numbers, or is truncated ({error})") from error


def _as_image(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif":
        raise DataError(
            f"{path}: an image is (H, W) or (H, W, channels) of numbers, and this is {array.dtype} {array.shape}"
        )
    return array[..., None] if array.ndim == 2 else array


def _as_rgb(layer: NDArray[Any]) -> NDArray[Any]:
    """Spread grey (with or without alpha) to three channels; drop alpha."""
    if layer.shape[2] in (1, 2):
        return np.repeat(layer[..., :1], 3, axis=2)
    return np.ascontiguousarray(layer[..., :3]) if layer.shape[2] == 4 else layer


def _range_of(dtype: np.dtype[Any], path: Path) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    if dtype.itemsize > 2:
        raise DataError(
            f"{path}: {dtype} numbers have no range of their own; give dataset.value_range=[low, high], the values "
            "that become 0 and 1"
        )
    return 0.0, float(np.iinfo(dtype).max)


def jpeg_is_whole(data: bytes) -> bool:
    """Look for the end of the image behind its header, whose thumbnail has one too; a camera may pad the file."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"\xda", b""):
        fill = data[place + 1 : place + 2] == b"\xff"
        place += 1 if fill else 2 + int.from_bytes(data[place + 2 : place + 4])
    return data.find(b"\xff\xd9", place) >= 0
