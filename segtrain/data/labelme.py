"""Masks from LabelMe's JSON: polygons, rectangles and circles, drawn as LabelMe's own export draws them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segtrain.config.suggest import did_you_mean
from segtrain.errors import DataError

VOID = "__ignore__"  # LabelMe's word
POINTS = {"polygon": 3, "rectangle": 2, "circle": 2}  # the fewest that each shape has


def read_labelme(path: Path, class_names: Sequence[str], *, ignore_index: int) -> NDArray[np.int32]:
    """Return the shapes of a LabelMe file as class ids; what none covers is class 0, later ones lie over.

    Args:
        path: the JSON file.
        class_names: the labels.
        ignore_index: the label of void, for shapes called __ignore__.

    Raises:
        DataError: if the file is no LabelMe JSON, a label is no class, or a shape covers no area.
    """
    content = read_json(path)
    try:
        width, height = int(content["imageWidth"]), int(content["imageHeight"])
        shapes = [
            (str(shape["label"]), str(shape.get("shape_type", "polygon")), _points(shape["points"]))
            for shape in content["shapes"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: is no LabelMe file: {error} is missing or wrong") from error
    picture = Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(picture)
    for label, kind, points in shapes:
        if kind not in POINTS or len(points) < POINTS[kind]:
            raise DataError(
                f"{path}: a {kind} of {len(points)} points covers no area that can be read; draw {', '.join(POINTS)}"
            )
        _draw(draw, kind, points, _label_of(label, class_names, ignore_index, path))
    return np.array(picture, dtype=np.int32)


def _points(pairs: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pairs]


def _label_of(name: str, class_names: Sequence[str], ignore_index: int, path: Path) -> int:
    if name in class_names:
        return list(class_names).index(name)
    if name == VOID:
        return ignore_index
    hint = did_you_mean(name, list(class_names))
    raise DataError(f"{path}: the label {name!r} is none of dataset.class_names.{hint}")


def _draw(draw: ImageDraw.ImageDraw, kind: str, points: list[tuple[float, float]], fill: int) -> None:
    (x0, y0), (x1, y1) = points[:2]
    if kind == "polygon":
        draw.polygon(points, fill=fill)
    elif kind == "rectangle":
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=fill)
    else:
        radius = math.hypot(x1 - x0, y1 - y0)  # from the middle to a point on the edge
        draw.ellipse([x0 - radius, y0 - radius, x0 + radius, y0 + radius], fill=fill)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error})") from error
