"""Images and masks listed in a CSV file."""

import csv
import glob
import os
from pathlib import Path

from segtrain.config.suggest import did_you_mean
from segtrain.data.folder import SPLITS, deal
from segtrain.data.images import ImageReader
from segtrain.data.leniency import raise_or_collect
from segtrain.data.masks import MaskReader
from segtrain.data.pairs import Files, PairedFiles
from segtrain.errors import DataError

COLUMNS = ("image", "mask", "split", "weight")
Row = dict[str, str]


class CsvFile(PairedFiles):
    """A table with the columns image and mask, and if wanted split and weight.

    A cell is a path, relative to the CSV's folder. Several with ";" between them are stacked (images) or united
    (masks); so are the masks that a pattern such as masks/7/*.png finds for one image. An image that is a pattern
    (images/*.jpg) stands for a row for each file it finds, with the mask of the same name.
    Without a column split, images are dealt to the splits by their names, 8:1:1.

    Args:
        file: the CSV.
        split: "train", "val" or "test".
        image: reads an image; None for RGB.
        mask: reads a mask; None for class ids.

    Raises:
        DataError: naming the file and line of what is wrong.
    """

    def __init__(
        self, *, file: str, split: str, image: ImageReader | None = None, mask: MaskReader | None = None
    ) -> None:
        path = Path(file).expanduser()
        samples = []
        for number, row in _rows(path):
            line = f"{path}, line {number}"
            try:
                if row.get("split", split) not in SPLITS:
                    raise DataError(f"{line}: split {row['split']!r} is not one of {', '.join(SPLITS)}")
                weight = _weight(line, row["weight"]) if "weight" in row else None
                pairs = _expand(path.parent, line, row["image"], row["mask"])
                samples += [(*pair, row.get("split"), weight) for pair in pairs]
            except DataError as error:
                raise_or_collect(error, kind="wrong_row", files=[path])
        dealt = deal([files[0].stem for files, *_ in samples], (0.8, 0.1, 0.1))
        mine = [sample for sample in samples if (sample[2] or dealt[sample[0][0].stem]) == split]
        weights = [weight for *_, weight in mine if weight is not None]
        super().__init__(
            [files for files, *_ in mine],
            [truth for _, truth, *_ in mine],
            image=image,
            mask=mask,
            weights=weights if mine and len(weights) == len(mine) else None,
        )


def _rows(path: Path) -> list[tuple[int, Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8 ({error})") from error
    columns = lines[0][1] if lines else []
    for needed in COLUMNS[:2]:
        if needed not in columns:
            raise DataError(f"{path}: has no column {needed!r} (has: {', '.join(columns) or 'nothing'})")
    for column in columns:
        if column not in COLUMNS:
            raise DataError(f"{path}: knows no column {column!r}.{did_you_mean(column, COLUMNS)}")
    if len(set(columns)) != len(columns):
        raise DataError(f"{path}: has a column twice ({', '.join(columns)})")
    for number, cells in lines[1:]:
        if len(cells) != len(columns) or not all(cells):
            wrong = DataError(f"{path}, line {number}: has not one cell for each of {', '.join(columns)}")
            raise_or_collect(wrong, kind="wrong_row", files=[path])
    whole = [(number, cells) for number, cells in lines[1:] if len(cells) == len(columns) and all(cells)]
    return [(number, dict(zip(columns, cells, strict=True))) for number, cells in whole]


def _expand(folder: Path, line: str, image: str, mask: str) -> list[tuple[Files, Files]]:
    """Return the images of a row, each with its mask."""
    if not _is_pattern(folder, image):
        pair = _files(folder, line, image), _files(folder, line, mask, patterns=True)
        return [pair] if all(pair) else []
    images, masks = _by_stem(folder, line, image), _by_stem(folder, line, mask)
    if missing := [images[name] for name in images if name not in masks]:
        error = DataError(f"{line}: {len(missing)} images have no mask like {mask}, such as {missing[0].name}")
        raise_or_collect(error, kind="missing_mask", files=missing)
    return [((images[name],), (masks[name],)) for name in sorted(images) if name in masks]


def _files(folder: Path, line: str, cell: str, *, patterns: bool = False) -> Files:
    files: list[Path] = []
    for name in cell.split(";"):
        if patterns and _is_pattern(folder, name):
            files += _find(folder, line, name)
        else:
            files.append(folder / Path(name.strip()).expanduser())
    if missing := [file for file in files if not file.is_file()]:
        raise_or_collect(DataError(f"{line}: {missing[0]} is not there"), kind="missing_file", files=missing)
        return ()
    return tuple(files)


def _by_stem(folder: Path, line: str, pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _find(folder, line, pattern):
        if path.stem in found:
            raise DataError(f"{line}: {found[path.stem]} and {path} have one name, so it does not say which is meant")
        found[path.stem] = path
    return found


def _is_pattern(folder: Path, name: str) -> bool:
    return any(sign in name for sign in "*?[") and not (folder / name).exists()


def _find(folder: Path, line: str, pattern: str) -> list[Path]:
    whole = os.path.join(glob.escape(str(folder)), os.path.expanduser(pattern.strip()))
    files = [path for path in map(Path, sorted(glob.glob(whole, recursive=True))) if path.is_file()]
    if not files:
        raise DataError(f"{line}: no file is like {pattern}")
    return files


def _weight(line: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise DataError(f"{line}: weight {text!r} is not a number of 0 or more")
    return weight
