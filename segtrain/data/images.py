"""Read images: 8 and 16 bits, floats, any number of channels, one file or a stack of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.errors import DataError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", *TIFF_SUFFIXES, ".npy")
Image = NDArray[np.uint8] | NDArray[np.float32]


class ImageReader:
    """Read an image as (H, W, channels): uint8 as it is, everything else as float32 in 0 to 1.

    The EXIF orientation is not applied, so that masks fit.

    Args:
        channels: that an image must have; with 3, a grey file is spread and an alpha channel dropped.
        value_range: (low, high), the values that become 0 and 1; None for 0 and the type's largest (1 for floats).
    """

    def __init__(self, *, channels: int = 3, value_range: Sequence[float] | None = None) -> None:
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise ValueError(f"value_range: {value_range} is not [low, high] with low below high")
        self.channels = channels
        self.value_range = value_range

    def __call__(self, *paths: Path) -> Image:
        """Return the image of one file, or of several whose channels are stacked in this order.

        Raises:
            DataError: if a file is missing, truncated or no image, or sizes or channels are not as they should be.
        """
        if len(paths) == 1:
            layers = [read_channels(paths[0], colour=self.channels == 3)]
        else:
            layers = [read_channels(path) for path in paths]
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
        if self.value_range is not None:
            low, high = self.value_range
        else:
            low, high = 0.0, (1.0 if layer.dtype.kind == "f" else float(np.iinfo(layer.dtype).max))
        scaled = (layer.astype(np.float32) - low) / (high - low)
        if not math.isfinite(float(scaled.sum())):
            raise DataError(
                f"{path}: has values that are not finite (NaN or infinity); fill them, or leave the file out"
            )
        return np.asarray(scaled, np.float32)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return an 8-bit image as RGB uint8 (H, W, 3).

    Raises:
        DataError: as `ImageReader`, and if the file has more than 8 bits.
    """
    image = ImageReader()(path)
    if image.dtype != np.uint8:
        raise DataError(f"{path}: has more than 8 bits a channel; give dataset.value_range and a folder of such images")
    return np.asarray(image, np.uint8)


def read_channels(path: Path, *, colour: bool = False) -> NDArray[Any]:
    """Return a file's values as they are, (H, W, channels), colours as RGB.

    Args:
        path: an image or .npy file.
        colour: spread grey to three channels and drop alpha.

    Raises:
        DataError: if the file is missing, truncated or no image.
    """
    if path.suffix.lower() == ".npy":
        return _read_numpy(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() in (".jpg", ".jpeg") and not _jpeg_is_whole(data):
        raise DataError(f"{path}: the JPEG is truncated; copy it again or leave it out")  # cv2 fills it with grey
    how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if colour else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(data, how | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise DataError(f"{path}: is not an image that OpenCV can read, or is truncated; copy it again or leave it out")
    if image.ndim == 2:
        return image[..., None]
    if image.shape[2] in (3, 4):
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA))
    return np.asarray(image)


def _read_numpy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: is not a NumPy array of numbers, or is truncated ({reason})") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif":
        raise DataError(
            f"{path}: an image is (H, W) or (H, W, channels) of numbers, and this is {array.dtype} {array.shape}"
        )
    return array[..., None] if array.ndim == 2 else array


def _jpeg_is_whole(data: NDArray[np.uint8]) -> bool:
    """Look for the end-of-image marker; some cameras pad the file behind it."""
    return b"\xff\xd9" in data[-4096:].tobytes()
