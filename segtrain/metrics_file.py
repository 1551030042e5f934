"""What is in a run's `metrics.csv` and `metrics.json`? Read without Lightning, for commands that only look at runs."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtrain.json_file import read_json


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a `metrics.csv`: none if there is no file, and not the one that a kill tore."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def read_metrics(run: Path) -> dict[str, float]:
    """Return the numbers in the `metrics.json` of a run folder; none if there is no file, or it is torn."""
    return numbers(read_json(run / "metrics.json")[0])


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among values."""
    kept = {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {str(key): float(value) for key, value in kept.items() if math.isfinite(value)}
