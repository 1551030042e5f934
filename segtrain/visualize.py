"""Draw masks: overlays, grids of image, truth, prediction and error, and legends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

VOID = (255, 255, 255)
WIDTH = 256  # pixels of one picture in a grid
BAR = 22  # pixels of a line of text


class Row(NamedTuple):
    """One line of a grid: image (H, W, C), uint8 or float32 in 0 to 1, truth and prediction (H, W) class ids."""

    image: NDArray[Any]
    truth: NDArray[np.integer]
    prediction: NDArray[np.integer]


def default_palette(num_classes: int) -> NDArray[np.uint8]:
    """Return (C, 3) colours that differ in their leading bits: PASCAL VOC's colour map."""
    palette = np.zeros((num_classes, 3), np.uint8)
    for label in range(num_classes):
        for bit in range(8):
            for channel in range(3):
                palette[label, channel] |= ((label >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette


def palette_of(palette: Sequence[Sequence[int]] | None, num_classes: int) -> NDArray[np.uint8]:
    """Return the (C, 3) colours of a data set's configuration, or the default ones."""
    return default_palette(num_classes) if palette is None else np.array(palette, np.uint8)


def colour(mask: NDArray[np.integer], palette: NDArray[np.uint8], ignore_index: int) -> NDArray[np.uint8]:
    """Return the RGB picture (H, W, 3) of class ids (H, W)."""
    picture = palette[np.where(mask == ignore_index, 0, mask)]
    picture[mask == ignore_index] = VOID
    return picture


def overlay(
    image: NDArray[Any],
    mask: NDArray[np.integer],
    palette: NDArray[np.uint8],
    *,
    ignore_index: int | None = None,
    opacity: float = 0.5,
) -> NDArray[np.uint8]:
    """Return the image with the mask's colours over it; class colours of (0, 0, 0) stay clear, void is white."""
    colours = (palette[mask] if ignore_index is None else colour(mask, palette, ignore_index)).astype(np.float32)
    share = np.where(colours.any(axis=2, keepdims=True), opacity, 0.0)
    return (rgb(image) * (1 - share) + colours * share).round().astype(np.uint8)


def error_picture(row: Row, ignore_index: int) -> NDArray[np.uint8]:
    """Return the image in dim grey with wrong pixels red and void pixels dark blue."""
    grey = np.asarray(cv2.cvtColor(rgb(row.image), cv2.COLOR_RGB2GRAY), np.uint8)
    picture = np.repeat((grey // 3 + 40)[..., None], 3, axis=2)
    void = row.truth == ignore_index
    picture[(row.truth != row.prediction) & ~void] = (230, 40, 40)
    picture[void] = (40, 40, 90)
    return picture


def draw_grid(
    rows: Sequence[Row], *, palette: NDArray[np.uint8], class_names: Sequence[str], ignore_index: int
) -> NDArray[np.uint8]:
    """Return one picture: a line a row with image, truth, prediction and error, and a legend below."""
    lines = [_titles(("image", "truth", "prediction", "error (red)"))]
    for row in rows:
        parts = (
            rgb(row.image),
            colour(row.truth, palette, ignore_index),
            colour(row.prediction, palette, ignore_index),
            error_picture(row, ignore_index),
        )
        lines.append(np.concatenate([_fit(part, smooth=i in (0,)) for i, part in enumerate(parts)], axis=1))
    lines.append(_legend(palette, class_names, 4 * WIDTH))
    return np.concatenate(lines)


def draw_samples(
    images: Sequence[NDArray[Any]],
    masks: Sequence[NDArray[np.integer]],
    *,
    palette: NDArray[np.uint8],
    class_names: Sequence[str],
    ignore_index: int,
    columns: int = 4,
) -> NDArray[np.uint8]:
    """Return one picture of images (H, W, C) with their masks over them, and a legend below."""
    tiles = [
        _fit(overlay(image, mask, palette, ignore_index=ignore_index), smooth=True)
        for image, mask in zip(images, masks, strict=True)
    ]
    lines = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height = max(tile.shape[0] for tile in row)
        line = np.full((height, columns * WIDTH, 3), 255, np.uint8)
        for column, tile in enumerate(row):
            line[: tile.shape[0], column * WIDTH : (column + 1) * WIDTH] = tile
        lines.append(line)
    colours = np.concatenate([palette, np.array([VOID], np.uint8)])
    return np.concatenate([*lines, _legend(colours, [*class_names, "void"], columns * WIDTH)])


def rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the first three channels, or the first one three times; of 0 to 255, or of floats in 0 to 1."""
    if image.dtype != np.uint8:
        image = (image.clip(0, 1) * 255).round().astype(np.uint8)
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def _fit(picture: NDArray[np.uint8], *, smooth: bool) -> NDArray[np.uint8]:
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    interpolation = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
    resized = cv2.resize(picture, (WIDTH - 4, height - 4 if height > 4 else height), interpolation=interpolation)
    bottom = 2 if height > 4 else 0
    return np.asarray(
        cv2.copyMakeBorder(resized, 2, bottom, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)), np.uint8
    )


def _titles(names: Sequence[str]) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (WIDTH * len(names), BAR), "white")
    draw = ImageDraw.Draw(canvas)
    for column, name in enumerate(names):
        draw.text((column * WIDTH + 6, 4), name, fill="black", font=ImageFont.load_default(13))
    return np.array(canvas)


def _legend(palette: NDArray[np.uint8], class_names: Sequence[str], width: int) -> NDArray[np.uint8]:
    font = ImageFont.load_default(13)
    places, x, y = [], 6, 4
    for name in class_names:
        need = 22 + int(font.getlength(name)) + 14
        if x + need > width:
            x, y = 6, y + BAR
        places.append((x, y))
        x += need
    canvas = Image.new("RGB", (width, y + BAR), "white")
    draw = ImageDraw.Draw(canvas)
    for (left, top), name, rgb in zip(places, class_names, palette.tolist(), strict=True):
        draw.rectangle((left, top, left + 14, top + 14), fill=tuple(rgb), outline="black")
        draw.text((left + 20, top), name, fill="black", font=font)
    return np.array(canvas)
