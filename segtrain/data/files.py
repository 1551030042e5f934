"""Read images and masks, and refuse what is broken with the file's name."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtrain.config.suggest import listed
from segtrain.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return an image as RGB uint8 (H, W, 3); the EXIF orientation is not applied, so that masks fit.

    Raises:
        DataError: if the file is missing, truncated or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() in (".jpg", ".jpeg") and not _jpeg_is_whole(data):
        raise DataError(f"{path}: the JPEG is truncated; copy it again or leave it out")  # cv2 fills it with grey
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise DataError(f"{path}: is not an image that OpenCV can read, or is truncated; copy it again or leave it out")
    if image.dtype != np.uint8:
        raise DataError(f"{path}: has {image.dtype.itemsize * 8} bits a channel; this version reads 8-bit images")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_is_whole(data: NDArray[np.uint8]) -> bool:
    """Look for the end-of-image marker; some cameras pad the file behind it."""
    return b"\xff\xd9" in data[-4096:].tobytes()


def read_mask(path: Path) -> NDArray[np.integer]:
    """Return a mask of class ids (H, W); a palette image gives its indices.

    Raises:
        DataError: if the file is missing, unreadable or has colours instead of ids.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1", "I", "I;16"):
                raise DataError(
                    f"{path}: a mask of class ids has one channel, and this has {image.mode}; "
                    "save the ids as an 8-bit grey or palette PNG"
                )
            return np.array(image, dtype=np.uint8 if image.mode in ("P", "L", "1") else np.int32)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: the mask cannot be read ({reason}); copy it again or leave it out") from error


def check_sample(
    image: NDArray[np.uint8],
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
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(
            f"{image_name}: an image is uint8 (H, W, channels), 0 to 255, and this is {image.dtype} {image.shape}"
        )
    if mask.shape != image.shape[:2]:
        size, other = (f"{shape[1]}x{shape[0]}" for shape in (mask.shape, image.shape))
        raise DataError(f"{mask_name}: the mask is {size} and its image {image_name} is {other}; they must agree")
    highest = int(mask.max(initial=0))
    if highest < num_classes and int(mask.min(initial=0)) >= 0:
        return
    values, counts = np.unique(mask, return_counts=True)
    wrong = [
        f"{value} ({count} pixels)"
        for value, count in zip(values, counts, strict=True)
        if not 0 <= value < num_classes and value != ignore_index
    ]
    if wrong:
        raise DataError(
            f"{mask_name}: labels outside 0 to {num_classes - 1} and not dataset.ignore_index={ignore_index}: "
            f"{listed(wrong, 6)}; correct dataset.num_classes, dataset.ignore_index or the mask"
        )
