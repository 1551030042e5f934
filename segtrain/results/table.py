"""The results as a table for a terminal, as CSV, or as Markdown."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from segtrain.results.flat import Value
from segtrain.results.labels import short_labels
from segtrain.results.rows import Results, Row
from segtrain.results.statistics import Score

Cell = Callable[[Row], str]
SPEED = "perf/images_per_second"
MEMORY = "memory, MiB"  # the heading
ASCII = {"± ": "+-", "─": "-"}  # as wide


def csv_text(results: Results) -> str:
    """Return all settings and metrics with all digits, a line a setting."""
    settings = list(results.rows[0].settings)
    objectives = results.collection.objectives
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    gaps = {name for name in results.metrics if any(row.has_gaps(name) for row in results.rows)}
    scores = [column for name in results.metrics for column in _headings(name, counted=name in gaps)]
    front = ["front"] if len(objectives) > 1 else []
    writer.writerow(["row", "run", *settings, "n", *scores, *front, "seconds", "status", "reason", "folder"])
    for row in results.rows:
        group = row.group
        numbers = [cell for name in results.metrics for cell in _exact(row, name, counted=name in gaps)]
        told = [int(row.front)] if front else []
        values = (_exact_value(row.settings[name]) for name in settings)
        ending = (_exact_value(group.seconds), group.status, group.reason, group.folder)
        writer.writerow([row.number, group.name, *values, len(group.complete), *numbers, *told, *ending])
    return file.getvalue().rstrip("\n")


def markdown_text(results: Results) -> str:
    """Return a table as GitHub's Markdown has it."""
    columns = _columns(results, {name: name for name in results.rows[0].settings})
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row) for cell in columns.values()] for row in results.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def terminal_text(results: Results, *, width: int) -> tuple[str, list[str]]:
    """Return a table of at most `width` characters, and the columns that had no room."""
    labels = short_labels(results.rows[0].settings)
    columns = _columns(results, labels)
    settings = [label for label in labels.values() if label in columns]
    optional = [name for name in columns if name in (MEMORY, "images/s", "run")]
    others = [name for name in results.metrics if name in columns and name not in (results.key, results.metric)]
    # from the last; one setting stays
    spare = [*optional[::-1], *settings[:0:-1], *(name for name in ("time", "n") if name in columns), *others[::-1]]
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    dropped: list[str] = []
    while (wide := _table(results, columns)) and spare:
        natural = console.measure(wide, options=console.options.update(max_width=10_000)).maximum
        if natural <= width:
            break
        name = spare.pop(0)
        del columns[name]
        dropped += [] if name == "run" else [name]
    with console.capture() as capture:
        console.print(wide)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")
    return text, [name for label in dropped for name in [*(k for k, v in labels.items() if v == label), label][:1]]


def in_ascii(text: str, encoding: str) -> str:
    """Return a text with the table's own signs in ASCII if an encoding does not have them."""
    try:
        "".join(ASCII).encode(encoding)
    except UnicodeEncodeError:
        for sign, plain in ASCII.items():
            text = text.replace(sign, plain)
    return text


def duration(seconds: float | None) -> str:
    """Return a time as 12 s, 3.4 min or 2.1 h."""
    if seconds is None:
        return ""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def score_text(score: Score | None) -> str:
    """Return a mean with its deviation over seeds."""
    if score is None:
        return ""
    mean = _short(score.mean)
    return mean if score.deviation is None else f"{mean} ± {_short(score.deviation)}"


def _columns(results: Results, labels: dict[str, str]) -> dict[str, Cell]:
    """Return {heading: what a row has there}."""
    rows, objectives = results.rows, results.collection.objectives
    columns: dict[str, Cell] = {"#": lambda row: f"{row.number}{'*' if row.front else ''}", "run": _run}
    for name, label in labels.items():
        columns[label] = lambda row, name=name: _setting(row.settings[name])  # type: ignore[misc]
    shown = [*objectives, results.key, results.metric, *(["test/miou"] if "test/miou" in results.metrics else [])]
    for name in dict.fromkeys(shown):
        if name in results.metrics:
            columns[name] = lambda row, name=name: _score(row, name, results.counted)  # type: ignore[misc]
    if any(len(row.group.runs) > 1 for row in rows):
        columns["n"] = lambda row: _count(_runs(row, results.counted), len(row.group.runs))
    columns["time"] = lambda row: duration(row.group.seconds)
    if SPEED in results.metrics and SPEED not in columns:
        columns["images/s"] = lambda row: _rounded(row.scores.get(SPEED))
    memory = next((name for name in results.metrics if "memory" in name and name not in columns), None)
    if memory is not None:
        columns[MEMORY] = lambda row: _rounded(row.scores.get(memory))
    columns["status"] = lambda row: row.group.status
    return columns


def _table(results: Results, columns: dict[str, Cell]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = {"#", "n", "time", "images/s", MEMORY, *results.metrics}
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in numeric else "left"
        table.add_column(name, overflow="fold", no_wrap=name == "status", justify=justify)
    for row in results.rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _run(row: Row) -> str:
    names = row.group.name.split(", ")
    return row.group.name if len(row.group.name) <= 24 else f"{names[0]}{f' +{len(names) - 1}' if names[1:] else ''}"


def _score(row: Row, name: str, counted: str | None) -> str:
    """Return a mean with its deviation, and over how many runs it is if the column n does not say that."""
    score, runs = row.scores.get(name), row.count(name)
    return score_text(score) if score is None or runs == _runs(row, counted) else f"{score_text(score)} (n={runs})"


def _runs(row: Row, counted: str | None) -> int:
    return len(row.group.complete) if counted is None else row.count(counted)


def _setting(value: Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _short(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def _rounded(score: Score | None) -> str:
    return "" if score is None else f"{score.mean:.3g}" if score.mean < 100 else f"{score.mean:.0f}"


def _count(complete: int, runs: int) -> str:
    return str(runs) if complete == runs else f"{complete} of {runs}"


def _headings(name: str, *, counted: bool) -> list[str]:
    return [name, f"{name} sd", *([f"{name} n"] if counted else [])]


def _exact(row: Row, name: str, *, counted: bool) -> list[str]:
    score = row.scores.get(name)
    cells = ["", ""] if score is None else [repr(score.mean), _exact_value(score.deviation)]
    return [*cells, *([str(row.count(name))] if counted else [])]


def _exact_value(value: Value | None) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else _setting(value)


def unique_lines(lines: Sequence[str], *, most: int) -> list[str]:
    """Return the first lines, and how many more there are."""
    return [*lines[:most], *([f"... and {len(lines) - most} more (--format csv has all)"] if len(lines) > most else [])]
