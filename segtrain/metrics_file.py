"""What is in a run's `metrics.csv`? Read without Lightning, for commands that only look at runs."""

import csv
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a `metrics.csv`: none if there is no file, and not the one that a kill tore."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
