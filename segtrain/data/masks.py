"""Read masks as people have them: ids, colours, 0 and 255, several files, instances, polygons."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtrain.config.suggest import listed
from segtrain.data.images import TIFF_SUFFIXES, read_numpy
from segtrain.data.labelme import read_labelme
from segtrain.data.tiff import read_header
from segtrain.errors import DataError

Mask = NDArray[np.integer]
Kind = Literal["ids", "colors", "binary", "instances", "labelme"]
MASK_SUFFIXES = (".png", *TIFF_SUFFIXES, ".bmp", ".webp", ".npy")
LOSSY = "JPEG changes values near edges, so a mask cannot be one; save it as PNG"


class MaskReader:
    """Read the mask of an image as class ids (H, W).

    Args:
        kind: what the files hold. "ids": class ids, grey or palette. "colors": RGB, a colour a class.
            "binary": 0 and anything else. "instances": 0 and a number an object, all of class 1. "labelme": polygons in
            LabelMe's JSON. Several "binary" or "instances" files of one image are united.
        colors: RGB of each class, for "colors"; another colour is an error, unless it is in `void_colors`.
        void_colors: colours that are void.
        class_names: for "labelme", the labels; the first is of what no polygon covers.
        ignore_index: the label of void.

    Raises:
        ValueError: if there is no such kind, or what it needs is not given.
    """

    def __init__(
        self,
        kind: Kind = "ids",
        *,
        colors: Sequence[Sequence[int]] | None = None,
        void_colors: Sequence[Sequence[int]] = (),
        class_names: Sequence[str] | None = None,
        ignore_index: int = 255,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"mask: {kind!r} is not one of {', '.join(get_args(Kind))}")
        if kind == "colors" and not colors:
            raise ValueError("palette: masks of colours need the colour of each class; give dataset.palette")
        if kind == "labelme" and not class_names:
            raise ValueError("class_names: polygons need the names of the classes; give dataset.class_names")
        self.kind = kind
        self.class_names = list(class_names or ())
        self.ignore_index = ignore_index
        self.suffixes = (".json",) if kind == "labelme" else MASK_SUFFIXES
        if kind == "colors":
            self.codes, self.labels = _color_table(colors or (), void_colors, ignore_index)

    def __call__(self, *paths: Path) -> Mask:
        """Return the class ids of one file, or of several that are united.

        Raises:
            DataError: if a file is missing, unreadable, of another kind, or the files differ in size.
        """
        if len(paths) > 1 and self.kind not in ("binary", "instances"):
            raise DataError(f"{paths[1]}: several files of one image can only be united where dataset.mask=binary")
        masks = read_same_size(self._read, paths)
        return masks[0] if len(masks) == 1 else np.maximum.reduce(masks)

    def _read(self, path: Path) -> Mask:
        if self.kind == "labelme":
            return read_labelme(path, self.class_names, ignore_index=self.ignore_index)
        values = read_values(path)
        if self.kind == "colors":
            return self._from_colors(values, path)
        if self.kind in ("binary", "instances"):
            return np.asarray(values > 0 if values.ndim == 2 else (values > 0).any(axis=2)).astype(np.uint8)
        if values.ndim == 3:
            raise DataError(
                f"{path}: a mask of class ids has one channel, and this has {values.shape[2]}; give dataset.mask="
                "colors and the colours as dataset.palette, or save the ids as an 8-bit grey or palette PNG"
            )
        return values

    def _from_colors(self, values: Mask, path: Path) -> Mask:
        if values.ndim == 2:
            raise DataError(f"{path}: has one channel and no colours; give dataset.mask=ids")
        codes = values[..., 0].astype(np.int32) << 16 | values[..., 1].astype(np.int32) << 8 | values[..., 2]
        place = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unknown = np.unique(codes[self.codes[place] != codes]).tolist()
        if unknown:
            names = listed([str([code >> 16, code >> 8 & 255, code & 255]) for code in unknown], 4)
            raise DataError(
                f"{path}: {len(unknown)} colours are no class's: {names}; correct dataset.palette, or give them as "
                "dataset.void_colors"
            )
        return self.labels[place]


class OneFileAClass:
    """Unite the masks of an image that has a file a class: classes 1, 2, ..., the later over the earlier.

    Args:
        read: reads one file; what is above 0 in it is the class.
    """

    def __init__(self, read: Callable[[Path], Mask]) -> None:
        self.read = read

    def __call__(self, *paths: Path) -> Mask:
        """Return the class ids (H, W); what no file covers is class 0.

        Raises:
            DataError: as the reader, and if the files differ in size.
        """
        masks = read_same_size(self.read, paths)
        merged = np.zeros(masks[0].shape, np.int32)
        for label, mask in enumerate(masks, start=1):
            merged[mask > 0] = label
        return merged


def read_same_size(read: Callable[[Path], Mask], paths: Sequence[Path]) -> list[Mask]:
    """Return the masks of one image's files.

    Raises:
        DataError: if they differ in size.
    """
    masks = [read(path) for path in paths]
    for mask, path in zip(masks, paths, strict=True):
        if mask.shape != masks[0].shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, masks[0].shape)]
            raise DataError(f"{path}: is {sizes[0]} and {paths[0]} of the same image is {sizes[1]}; they must agree")
    return masks


def read_values(path: Path) -> Mask:
    """Return what a mask file holds: (H, W) integers, palette indices as they are, or (H, W, 3) uint8 colours.

    Raises:
        DataError: if the file is missing, unreadable, lossy or has no whole numbers.
    """
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        raise DataError(f"{path}: {LOSSY}")
    if suffix == ".npy":
        array = read_numpy(path)
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim != 2 or array.dtype.kind not in "uib":
            raise DataError(f"{path}: a mask is (H, W) of integers, and this is {array.dtype} {array.shape}")
        return array.astype(np.uint8 if array.itemsize == 1 and array.dtype.kind != "i" else np.int64)
    if suffix in TIFF_SUFFIXES:
        read_header(path)  # refuses several pages, of which Pillow would give the first
    if suffix == ".png" and (values := _read_grey_png(path)) is not None:
        return values
    try:
        with Image.open(path) as image:
            if image.format in ("JPEG", "MPO"):
                raise DataError(f"{path}: {LOSSY}")
            if image.mode in ("P", "L", "1"):
                return np.array(image, dtype=np.uint8)
            if image.mode == "I" or image.mode.startswith("I;16"):
                return np.array(image).astype(np.int32)
            if image.mode in ("RGB", "RGBA"):
                return np.array(image.convert("RGB"))
            raise DataError(
                f"{path}: a mask of mode {image.mode} holds no class ids; save an 8-bit grey or palette PNG"
            )
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: the mask cannot be read ({reason}); copy it again or leave it out") from error


def _read_grey_png(path: Path) -> NDArray[np.uint8] | None:
    """Return an 8-bit grey PNG by OpenCV, in two thirds of Pillow's time; None for any other file, a bad one too."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    if data[:8].tobytes() != b"\x89PNG\r\n\x1a\n" or data[24:26].tolist() != [8, 0]:  # bit depth, grey
        return None
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return None if values is None or values.ndim != 2 else np.asarray(values, np.uint8)


def _color_table(
    colors: Sequence[Sequence[int]], void_colors: Sequence[Sequence[int]], ignore_index: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the codes of all colours, ascending, and the label of each."""
    by_code: dict[int, int] = {}
    for label, color in [*enumerate(colors), *((ignore_index, color) for color in void_colors)]:
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise ValueError(f"palette: {list(color)} is not [red, green, blue] of 0 to 255")
        code = color[0] << 16 | color[1] << 8 | color[2]
        if by_code.get(code, label) != label:
            raise ValueError(f"palette: {list(color)} is the colour of two labels, {by_code[code]} and {label}")
        by_code[code] = label
    codes = sorted(by_code)
    return np.array(codes, np.int32), np.array([by_code[code] for code in codes], np.int32)
