"""Read masks as people have them: ids, colours, 0 and 255, several files, instances, polygons."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segtrain.config.suggest import did_you_mean, listed
from segtrain.errors import DataError

Mask = NDArray[np.integer]
Kind = Literal["ids", "colors", "binary", "instances", "labelme"]
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp", ".npy", ".json")


class MaskReader:
    """Read the mask of an image as class ids (H, W).

    Args:
        kind: what the files hold. "ids": class ids, grey or palette. "colors": RGB, a colour a class.
            "binary": 0 and anything else. "instances": 0 and a number an object, all of class 1. "labelme": polygons in
            LabelMe's JSON. Several "binary" or "instances" files of one image are united; several files for
            `one_file_a_class` are classes 1, 2, ... in their order, the later over the earlier.
        colors: RGB of each class, for "colors"; another colour is an error, unless it is in `void_colors`.
        void_colors: colours that are void.
        class_names: for "labelme", the labels.
        ignore_index: the label of void.
        one_file_a_class: each file of an image is a class.
    """

    def __init__(
        self,
        kind: Kind = "ids",
        *,
        colors: Sequence[Sequence[int]] | None = None,
        void_colors: Sequence[Sequence[int]] = (),
        class_names: Sequence[str] = (),
        ignore_index: int = 255,
        one_file_a_class: bool = False,
    ) -> None:
        kinds = ("ids", "colors", "binary", "instances", "labelme")
        if kind not in kinds:
            raise ValueError(f"mask: {kind!r} is not one of {', '.join(kinds)}")
        if kind == "colors" and not colors:
            raise ValueError("palette: masks of colours need the colour of each class; give dataset.palette")
        self.kind = kind
        self.class_names = list(class_names)
        self.ignore_index = ignore_index
        self.one_file_a_class = one_file_a_class
        self.by_color = {_code(color): label for label, color in enumerate(colors or ())}
        self.by_color |= {_code(color): ignore_index for color in void_colors}

    def __call__(self, *paths: Path) -> Mask:
        """Return the class ids of one file, or of several that belong to one image.

        Raises:
            DataError: if a file is missing, unreadable, of another kind, or the files differ in size.
        """
        masks = [self._read(path) for path in paths]
        for mask, path in zip(masks, paths, strict=True):
            if mask.shape != masks[0].shape:
                raise DataError(f"{path}: is {_size(mask)} and {paths[0]} of the same image is {_size(masks[0])}")
        if self.one_file_a_class:
            merged = np.zeros(masks[0].shape, np.int32)
            for label, mask in enumerate(masks, start=1):
                merged[mask > 0] = label
            return merged
        if len(masks) > 1:
            if self.kind not in ("binary", "instances"):
                raise DataError(f"{paths[1]}: several files of one image can only be united where dataset.mask=binary")
            masks = [np.maximum.reduce(masks)]
        return masks[0]

    def _read(self, path: Path) -> Mask:
        if self.kind == "labelme":
            return read_labelme(path, self.class_names)
        values = read_values(path)
        if self.kind == "colors":
            return self._from_colors(values, path)
        if values.ndim == 3:
            raise DataError(
                f"{path}: a mask of class ids has one channel, and this has {values.shape[2]}; give "
                "dataset.mask=colors and the colours as dataset.palette, or save the ids as an 8-bit grey or palette PNG"
            )
        if self.kind in ("binary", "instances"):
            return (values > 0).astype(np.uint8)
        return values

    def _from_colors(self, values: Mask, path: Path) -> Mask:
        if values.ndim == 2:
            raise DataError(f"{path}: has one channel and no colours; give dataset.mask=ids")
        codes = values[..., 0].astype(np.int32) << 16 | values[..., 1].astype(np.int32) << 8 | values[..., 2]
        found, inverse = np.unique(codes, return_inverse=True)
        unknown = [code for code in found.tolist() if code not in self.by_color]
        if unknown:
            names = listed([str([code >> 16, code >> 8 & 255, code & 255]) for code in unknown], 4)
            raise DataError(
                f"{path}: {len(unknown)} colours are no class's: {names}; correct dataset.palette, or give them as "
                "dataset.void_colors"
            )
        return np.array([self.by_color[code] for code in found.tolist()], np.int32)[inverse].reshape(codes.shape)


def read_values(path: Path) -> Mask:
    """Return what a mask file holds: (H, W) integers, palette indices as they are, or (H, W, 3) uint8 colours.

    Raises:
        DataError: if the file is missing, unreadable, lossy or has no whole numbers.
    """
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        raise DataError(f"{path}: JPEG changes values near edges, so a mask cannot be one; save it as PNG")
    if suffix == ".npy":
        return _read_numpy(path)
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "L", "1"):
                return np.array(image, dtype=np.uint8)
            if image.mode in ("I", "I;16"):
                return np.array(image, dtype=np.int32)
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


def _read_numpy(path: Path) -> Mask:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: is not a NumPy array of numbers, or is truncated ({reason})") from error
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "uib":
        raise DataError(f"{path}: a mask is (H, W) of integers, and this is {array.dtype} {array.shape}")
    return array.astype(np.int32)


def read_labelme(path: Path, class_names: Sequence[str]) -> Mask:
    """Return the polygons of a LabelMe file as class ids; what no polygon covers is class 0, later ones lie over.

    Raises:
        DataError: if the file is no LabelMe JSON, or a label is no class.
    """
    content = read_json(path)
    try:
        size = int(content["imageWidth"]), int(content["imageHeight"])
        shapes = [(str(s["label"]), s.get("shape_type", "polygon"), s["points"]) for s in content["shapes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no LabelMe file: {error} is missing or wrong") from error
    picture = Image.new("I", size, 0)
    draw = ImageDraw.Draw(picture)
    for label, kind, points in shapes:
        if label not in class_names:
            hint = did_you_mean(label, list(class_names))
            raise DataError(f"{path}: the label {label!r} is none of dataset.class_names.{hint}")
        outline = [(float(x), float(y)) for x, y in points]
        fill = list(class_names).index(label)
        if kind == "rectangle":
            draw.rectangle([outline[0], outline[1]], fill=fill)
        elif kind == "polygon":
            draw.polygon(outline, fill=fill)
        else:
            raise DataError(f"{path}: a shape of type {kind!r} covers no area; draw polygons or rectangles")
    return np.array(picture, dtype=np.int32)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error})") from error


def _code(color: Sequence[int]) -> int:
    red, green, blue = color
    return int(red) << 16 | int(green) << 8 | int(blue)


def _size(mask: Mask) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"
