"""The result as text: tables of splits and classes, the problems with their remedies, and one line in sum."""

from collections import Counter
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

from segtrain.dataset_check.check import Result
from segtrain.dataset_check.facts import Facts
from segtrain.dataset_check.problem import Item, Problem, on_command_line
from segtrain.summary import render

FIRST = 5  # places of a kind that are printed


def report_text(result: Result) -> str:
    """Return what is printed."""
    parts = [_splits(result)]
    if result.facts and result.class_names:
        parts.append(_classes(result))
    parts += [_channels(result.facts), *map(_problem, result.problems), _sum(result)]
    return "\n\n".join(part for part in parts if part)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _splits(result: Result) -> str:
    found: dict[str, Counter[str | None]] = {"error": Counter(), "warning": Counter()}
    for problem in result.problems:
        if problem.severity in found:
            found[problem.severity].update(item.split for item in problem.items)
    table = _table("split", "samples", "images", "masks", "sizes", "errors", "warnings")
    for split, facts in result.facts.items():
        counts = (facts["samples"], facts["images"], facts["masks"])
        grave = (found["error"][split], found["warning"][split])
        table.add_row(split, *map(str, counts), _sizes(facts["sizes"]), *map(str, grave))
    return _text(table) if result.facts else ""


def _sizes(sizes: list[dict[str, int]]) -> str:
    if not sizes:
        return ""
    by_area = sorted(sizes, key=lambda size: size["width"] * size["height"])
    ends = [f"{size['width']}x{size['height']}" for size in (by_area[0], by_area[-1])]
    return ends[0] if len(sizes) == 1 else f"{len(sizes)} sizes, {ends[0]} to {ends[1]}"


def _classes(result: Result) -> str:
    weights = {name.replace("_", " "): values for name, values in result.weights.items()}
    table = _table("class", *result.facts, *weights)
    for label, name in _rows(result):
        shares = [facts["labels"]["class_frequency"][label] for facts in result.facts.values()]
        row = [f"{100 * share:.3f} %" if share else "absent" for share in shares]
        table.add_row(name, *row, *(f"{values[label]:.3f}" for values in weights.values()))
    void = [facts["labels"] for facts in result.facts.values()]
    table.add_row("void", *(f"{100 * _void_share(labels):.3f} %" for labels in void), *[""] * len(weights))
    below = "class weights of the training split, mean 1; the effective number is that of images (beta 0.999)"
    return f"{_text(table)}\n{below}" if weights else _text(table)


def _rows(result: Result) -> list[tuple[int, str]]:
    """Return a class and a name for each row: classes in a row that no split has share one."""
    names = list(result.class_names or ())
    pixels = [
        sum(facts["labels"]["class_pixels"][label] for facts in result.facts.values()) for label in range(len(names))
    ]
    rows: list[tuple[int, str]] = []
    for absent, group in groupby(range(len(names)), key=lambda label: not pixels[label]):
        labels = list(group)
        if absent and len(labels) > 2:
            rows.append((labels[0], f"{names[labels[0]]} to {names[labels[-1]]}"))
        else:
            rows += [(label, names[label]) for label in labels]
    return rows


def _text(table: Table) -> str:
    return render(table).strip("\n")


def _void_share(labels: Facts) -> float:
    return float(labels["void_pixels"] / max(labels["void_pixels"] + sum(labels["class_pixels"]), 1))


def _channels(facts: dict[str, Facts]) -> str:
    channels: dict[str, Any] | None = facts["train"]["channels"] if "train" in facts else None
    if channels is None:
        return ""
    mean, deviation = (", ".join(f"{value:.4f}" for value in channels[key]) for key in ("mean", "std"))
    return f"training images, in 0 to 1: dataset.mean=[{mean}] dataset.std=[{deviation}]"


def _problem(problem: Problem) -> str:
    count = len(problem.items)
    lines = [f"{problem.severity.upper()} {problem.kind}: {problem.what} ({count})"]
    shown = problem.items if count <= FIRST + 1 else problem.items[:FIRST]
    lines += [f"    {_place(item)}" for item in shown if problem.severity != "info"]
    if count > len(shown) and problem.severity != "info":
        lines.append(f"    and {count - len(shown)} more, in check.json")
    if problem.fix:
        lines.append(f"  fix: {problem.fix}")
    if problem.overrides:
        lines.append(f"  try: {on_command_line(problem.overrides)}")
    return "\n".join(lines)


def _place(item: Item) -> str:
    named = () if item.names_files else item.files[:4]
    return f"{', '.join(named)}: {item.text}" if named else item.text


def _sum(result: Result) -> str:
    effort = result.effort
    grave = f"{_counted(result.count('error'), 'error')}, {_counted(result.count('warning'), 'warning')}"
    found = f"{grave} in {_counted(result.files, 'file')}"
    if not result.records:
        return f"{found}; there was no sample to scan"
    cost = f"{effort.seconds:.1f} s, {100 * effort.busy:.0f} % of {_counted(effort.cores, 'core')} busy"
    return f"{found}; scanned {_counted(len(result.records), 'sample')} in {cost}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
