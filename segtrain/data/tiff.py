"""Read TIFFs and GeoTIFFs: OpenCV misreads many without a word, so the header says who reads the file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from segtrain.errors import DataError

# tags (TIFF 6.0, section 8)
SUBFILE, BITS, PHOTOMETRIC, SAMPLES, PLANAR = 254, 258, 262, 277, 284
RGB, YCBCR, INTERLEAVED = 2, 6, 1
REDUCED_OR_MASK = 1 | 4  # bits of SUBFILE: an overview or a transparency mask is not a page of its own

Header = TiffImagePlugin.ImageFileDirectory_v2


def read_header(path: Path) -> Header:
    """Return the tags of a TIFF's only page.

    Raises:
        DataError: if the file is missing, truncated, no TIFF, or has several pages.
    """
    pages = read_pages(path)
    if len(pages) != 1:
        raise DataError(f"{path}: has {len(pages)} pages and one is wanted; save each as a file of its own")
    return pages[0]


def read_pages(path: Path) -> list[Header]:
    """Return the tags of each page of a TIFF.

    Raises:
        DataError: if the file is missing, truncated or no TIFF.
    """
    pages: list[Header] = []
    try:
        with path.open("rb") as file:
            start = file.read(8)
            start += file.read(8) if start[2:3] == b"\x2b" or start[3:4] == b"\x2b" else b""  # BigTIFF
            place = Header(start).next
            while place and len(pages) < 10_000:
                header = Header(start)
                file.seek(place)
                header.load(file)
                if not header.get(SUBFILE, 0) & REDUCED_OR_MASK:
                    pages.append(header)
                place = header.next
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); copy it again or leave it out") from error
    except Exception as error:  # Pillow's parser of a damaged header raises whatever it stumbles over
        raise DataError(f"{path}: is no TIFF, or is truncated ({error}); copy it again or leave it out") from error
    return pages


def opencv_reads(header: Header) -> bool:
    """Return whether OpenCV reads a page as it is: one channel, or interleaved RGB."""
    samples = header.get(SAMPLES, 1)
    interleaved = header.get(PLANAR, INTERLEAVED) == INTERLEAVED
    return samples == 1 or (samples == 3 and header.get(PHOTOMETRIC) in (RGB, YCBCR) and interleaved)


def read_bands(path: Path, header: Header) -> NDArray[Any]:
    """Return the channels (H, W, C) of a page that OpenCV does not read: by Pillow if it knows them, else by rasterio.

    Raises:
        DataError: if the file is truncated, or rasterio is not installed.
    """
    if set(header.get(BITS, ())) == {8}:
        try:
            with Image.open(path) as image:
                if image.mode in ("LA", "RGBA"):
                    return np.array(image)
                if image.mode == "CMYK":
                    return np.array(image.convert("RGB"))
        except UnidentifiedImageError:
            pass  # channels that Pillow has no name for
        except OSError as error:
            raise DataError(f"{path}: is truncated ({error}); copy it again or leave it out") from error
    try:
        import rasterio
    except ImportError as error:
        raise DataError(
            f"{path}: a TIFF of {header.get(SAMPLES)} channels laid out like this needs rasterio: "
            "pip install 'rasterio>=1.4,<2'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # a place on Earth is not needed
            with rasterio.open(path) as dataset:
                return np.ascontiguousarray(dataset.read().transpose(1, 2, 0))
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: rasterio cannot read it ({error}); copy it again or leave it out") from error
