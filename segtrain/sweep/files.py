"""Files of a search's folder, which several workers may write at the same time: each is replaced at once."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segtrain.run_folder import replace, write_text


def write_json(path: Path, values: Any) -> None:
    """Write an object."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; floats with all their digits, None as nothing."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(["" if cell is None else cell for cell in row] for row in rows)

    replace(path, write)
