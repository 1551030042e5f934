"""The result as a picture: how often classes are, how large images are, and what some samples look like."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segtrain.dataset_check.check import Result
from segtrain.dataset_check.record import Record
from segtrain.visualize import VOID, default_palette, overlay, rgb

WIDTH, HALF, CELL, LINE = 1200, 600, 300, 20  # pixels
MOST_CLASSES = 32  # whose bars are drawn
MOST_SAMPLES = 8
OUTSIDE = (255, 0, 255)  # labels that are neither a class nor void
INK, PALE = (30, 30, 30), (225, 225, 225)
MARKS = ((31, 119, 180), (255, 127, 14), (44, 160, 44))  # of train, val and test among the sizes

Picture = NDArray[np.uint8]


def draw(result: Result) -> Picture:
    """Return the picture (H, 1200, 3)."""
    count = len(result.class_names or ())
    given = result.dataset.get("palette")
    palette = np.asarray(given if given and len(given) == count else default_palette(count), np.uint8).reshape(-1, 3)
    bars, sizes = _bars(result, palette), _sizes(result)
    height = max(bars.shape[0], sizes.shape[0])
    upper = np.concatenate([_tall(bars, height), _tall(sizes, height)], axis=1)
    return np.concatenate([upper, *_samples(result, palette)])


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def _tall(picture: Picture, height: int) -> Picture:
    return np.pad(picture, ((0, height - picture.shape[0]), (0, 0), (0, 0)), constant_values=255)


def _bars(result: Result, palette: Picture) -> Picture:
    """Draw a group of bars a class, one a split: the share of its pixels, the longest bar the largest share."""
    names = (result.class_names or [])[:MOST_CLASSES]
    splits = list(result.facts)
    shares = {split: result.facts[split]["labels"]["class_frequency"] for split in splits}
    step = 8 * len(splits) + 8
    image, pen = _canvas(HALF, 40 + step * len(names))
    font = ImageFont.load_default(12)
    more = f" (the first {MOST_CLASSES} of {len(palette)})" if len(palette) > MOST_CLASSES else ""
    pen.text(
        (10, 10), f"share of the labelled pixels{more}: {', '.join(splits)}", fill=INK, font=ImageFont.load_default(14)
    )
    longest = max((share for values in shares.values() for share in values), default=0) or 1
    for label, name in enumerate(names):
        top = 36 + step * label
        pen.text((10, top), name[:18], fill=INK, font=font)
        for row, split in enumerate(splits):
            length = round(325 * shares[split][label] / longest)
            box = (130, top + 8 * row, 130 + length, top + 8 * row + 6)
            pen.rectangle(box, fill=tuple(palette[label].tolist()), outline=(120, 120, 120))
        text = " / ".join(f"{100 * shares[split][label]:.2g}" for split in splits)
        pen.text((465, top), f"{text} %", fill=INK, font=font)
    return np.array(image)


def _sizes(result: Result) -> Picture:
    """Draw a disc a size, its area the number of images, beside the axes of width and height."""
    found = [(split, size) for split, facts in result.facts.items() for size in facts["sizes"]]
    image, pen = _canvas(HALF, 340)
    pen.text((10, 10), "image sizes: width to the right, height up, area the number of images", fill=INK,
             font=ImageFont.load_default(14))  # fmt: skip
    if not found:
        return np.array(image)
    font = ImageFont.load_default(12)
    most = max(max(size["width"], size["height"]) for _, size in found) * 1.1
    left, bottom, span = 60, 300, 240
    for part in range(5):
        value = most * part / 4
        offset = round(span * part / 4)
        pen.line((left, bottom - offset, left + 2 * span, bottom - offset), fill=PALE)
        pen.line((left + 2 * offset, bottom, left + 2 * offset, bottom - span), fill=PALE)
        pen.text((10, bottom - offset - 7), f"{value:.0f}", fill=INK, font=font)
        pen.text((left + 2 * offset - 12, bottom + 6), f"{value:.0f}", fill=INK, font=font)
    largest = max(size["images"] for _, size in found)
    for number, split in enumerate(result.facts):
        color = MARKS[number % len(MARKS)]
        for owner, size in found:
            if owner != split:
                continue
            x, y = left + 2 * span * size["width"] / most, bottom - span * size["height"] / most
            radius = 3 + 15 * (size["images"] / largest) ** 0.5
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=2)
        pen.text((left + 110 * number, bottom + 22), f"o {split}", fill=color, font=font)
    return np.array(image)


def _samples(result: Result, palette: Picture) -> list[Picture]:
    """Draw up to eight samples in two rows, those with problems first."""
    cells = [
        cell for record, caption in _chosen(result) if (cell := _cell(result, record, caption, palette)) is not None
    ][:MOST_SAMPLES]
    rows = []
    for start in range(0, len(cells), 4):
        row = cells[start : start + 4]
        height = max(cell.shape[0] for cell in row)
        joined = np.concatenate([_tall(cell, height) for cell in row], axis=1)
        rows.append(np.pad(joined, ((0, 0), (0, WIDTH - joined.shape[1]), (0, 0)), constant_values=255))
    if cells:
        image, pen = _canvas(WIDTH, LINE + 6)
        text = "samples with their masks: white is void, magenta a label that is neither a class nor void"
        pen.text((10, 4), text, fill=INK, font=ImageFont.load_default(14))
        rows.insert(0, np.array(image))
    return rows


def _chosen(result: Result) -> list[tuple[Record, str]]:
    """Return records to draw, each with a caption: one a kind of problem, then others from all over the splits."""
    by_place = {(record.split, record.index): record for record in result.records if record.image is not None}
    chosen: dict[tuple[str, int], str] = {}
    for problem in result.problems:
        places = [(item.split, item.index) for item in problem.items if item.split and item.index is not None]
        place = next((place for place in places if place in by_place), None)
        if problem.severity != "info" and place is not None:
            chosen.setdefault(place, problem.kind.replace("_", " "))
    whole = [place for place, record in by_place.items() if record.mask is not None and place not in chosen]
    for number in range(MOST_SAMPLES):
        if whole:
            chosen.setdefault(whole[number * len(whole) // MOST_SAMPLES], "")
    return [(by_place[place], caption) for place, caption in chosen.items()]


def _cell(result: Result, record: Record, caption: str, palette: Picture) -> Picture | None:
    try:
        image, mask = _parts(result, record)
    except Exception:  # a data set of the user's own that fails now and then has been reported already
        return None
    height = max(1, round(image.shape[0] * (CELL - 8) / image.shape[1]))
    size = (CELL - 8, min(height, 2 * CELL))
    small = cv2.resize(rgb(image), size, interpolation=cv2.INTER_AREA)
    if mask is not None and mask.shape == image.shape[:2]:
        few = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint16)
        small = overlay(small, few, np.concatenate([palette, np.array([VOID, OUTSIDE], np.uint8)]))
    picture, pen = _canvas(CELL, size[1] + LINE + 8)
    picture.paste(Image.fromarray(np.asarray(small, np.uint8)), (4, LINE))
    name = record.image_file.rsplit("/", 1)[-1]
    text = f"{caption}: {record.split} {name}" if caption else f"{record.split} {name}"
    pen.text((6, 3), text[:48], fill=(200, 0, 0) if caption else INK, font=ImageFont.load_default(12))
    return np.array(picture)


def _parts(result: Result, record: Record) -> tuple[NDArray[Any], NDArray[np.uint16] | None]:
    """Return a sample's image, and its mask with classes as they are, then void, then what is neither."""
    source: Any = result.sources[record.split]
    if record.mask is None:
        return source.image(record.index), None
    image, mask = source[record.index]
    labels, count = result.labels(mask), len(result.class_names or ())
    places = np.where((labels >= 0) & (labels < count), labels, count + 1)
    return image, np.where(labels == result.dataset["ignore_index"], count, places).astype(np.uint16)


def write(result: Result, path: Path) -> None:
    """Write the picture as a PNG."""
    Image.fromarray(draw(result)).save(path)
