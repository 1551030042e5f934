"""Images and masks listed in a CSV file."""

import csv
from pathlib import Path

from segtrain.config.suggest import did_you_mean
from segtrain.data.folder import SPLITS, share_of
from segtrain.data.images import ImageReader
from segtrain.data.masks import MaskReader
from segtrain.data.pairs import Files, PairedFiles
from segtrain.errors import DataError

COLUMNS = ("image", "mask", "split", "weight")


class CsvFile(PairedFiles):
    """A table with the columns image and mask, and if wanted split and weight.

    A cell is a path, relative to the CSV's folder; several with ";" between them are stacked (images) or united
    (masks); a pattern such as images/*.jpg stands for a row for each file, with the mask of the same name.
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
        images, masks, weights = [], [], []
        for number, row in _rows(path):
            for files, truth in _expand(path, number, row["image"], row["mask"]):
                own = row.get("split") or share_of(files[0].stem, (0.8, 0.1, 0.1))
                if own not in SPLITS:
                    raise DataError(f"{path}, line {number}: split {own!r} is not one of {', '.join(SPLITS)}")
                if own == split:
                    images.append(files)
                    masks.append(truth)
                    weights.append(_weight(path, number, row.get("weight") or "1"))
        super().__init__(images, masks, image=image, mask=mask, weights=weights)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            columns = [*(reader.fieldnames or [])]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8 ({error})") from error
    for needed in COLUMNS[:2]:
        if needed not in columns:
            raise DataError(f"{path}: has no column {needed!r} (has: {', '.join(map(str, columns)) or 'nothing'})")
    for column in columns:
        if column not in COLUMNS:
            raise DataError(f"{path}: knows no column {column!r}.{did_you_mean(str(column), COLUMNS)}")
    for number, row in rows:
        if None in row or not row["image"] or not row["mask"]:
            raise DataError(f"{path}, line {number}: has not one cell for each of {', '.join(columns)}")
    return rows


def _expand(path: Path, number: int, image: str, mask: str) -> list[tuple[Files, Files]]:
    if not any(sign in image for sign in "*?["):
        return [(_files(path, number, image), _files(path, number, mask))]
    images = sorted(path.parent.glob(image))
    by_name = {found.stem: found for found in path.parent.glob(mask)}
    if not images:
        raise DataError(f"{path}, line {number}: no file is like {image}")
    if missing := [found.name for found in images if found.stem not in by_name]:
        raise DataError(f"{path}, line {number}: {len(missing)} images have no mask like {mask}, such as {missing[0]}")
    return [((found,), (by_name[found.stem],)) for found in images]


def _files(path: Path, number: int, cell: str) -> Files:
    files = tuple(path.parent / Path(name.strip()).expanduser() for name in cell.split(";"))
    if missing := [str(file) for file in files if not file.is_file()]:
        raise DataError(f"{path}, line {number}: {missing[0]} is not there")
    return files


def _weight(path: Path, number: int, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise DataError(f"{path}, line {number}: weight {text!r} is not a number of 0 or more")
    return weight
