"""Which classes have the masks, where nothing else says so, and are some of their labels slips?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from segtrain.config.facts import class_problems
from segtrain.config.suggest import listed
from segtrain.data.classes import MOST, numbered, numbered_classes, stated_classes
from segtrain.data.source import Source
from segtrain.dataset_check.label_rules import mend
from segtrain.dataset_check.problem import Item, Problem
from segtrain.dataset_check.record import Record
from segtrain.errors import DataError

FEW = 0.01  # of the labelled pixels: labels behind a gap that have fewer are more likely slips than classes


@dataclass(frozen=True)
class FoundClasses:
    """The classes of a data set.

    Args:
        names: C names; None where they could not be found.
        problems: of finding them.
        told: labels that a problem has told already: those that no mask has, and those behind them.
    """

    names: list[str] | None
    problems: list[Problem] = field(default_factory=list)
    told: frozenset[int] = frozenset()


def find_classes(dataset: Mapping[str, Any], train: Source | None, records: Sequence[Record]) -> FoundClasses:
    """Return the classes as training finds them, from the training masks that could be read.

    Args:
        dataset: the data set's configuration; `num_classes` and `class_names` may be None.
        train: the training split; None if it has no sample.
        records: of all samples.
    """
    names, count = dataset.get("class_names"), dataset.get("num_classes")
    found = FoundClasses(None if names is None else list(names))
    if names is None and count is not None:
        found = FoundClasses(numbered(count))
    elif names is None and train is not None:
        found = FoundClasses(stated_classes(train, dataset=dataset))
        if found.names is None and any(record.split == "train" and record.mask for record in records):
            found = _from_masks(dataset, records)
    if found.names is None or None not in (dataset.get("class_names"), count):
        return found
    doubts = class_problems({**dataset, "class_names": found.names, "num_classes": count or len(found.names)})
    problems = [*found.problems, *(Problem("configuration", [Item(text)]) for text in doubts)]
    return FoundClasses(found.names, problems, found.told)


def _from_masks(dataset: Mapping[str, Any], records: Sequence[Record]) -> FoundClasses:
    """Return a class for each number up to the highest label of training, and what speaks against that."""
    ignored = int(dataset["ignore_index"])
    training = {label for record in records if record.split == "train" for label in _held(record)} - {ignored}
    top = max(training, default=0)
    pixels = _pixels(records, of=range(top + 1), but=ignored)
    labels = sorted(pixels)
    below, slips = _slips(pixels)
    if top >= MOST and slips:  # the rules of labels tell the files, of all splits
        return FoundClasses(numbered(max(below[-1] + 1, 2)))
    left_out = max(top + 1 - len(labels), 0)
    fix, overrides = "", list[str]()
    if slips:
        _, overrides = mend(labels, slips, dataset, max(below[-1] + 1, 2))
        fix = f"So few pixels are more likely a slip, and {listed([str(label) for label in slips], 8)} would be void"
    elif 1 < len(labels) < MOST and left_out and (left_out >= len(labels) or 0 not in pixels):
        fix, overrides = mend(labels, [label for label in labels if label >= len(labels)], dataset, len(labels))
    suspects = _items(records, slips) if slips else _items(records, [top])[:1]
    try:
        names = numbered_classes(top, name=suspects[0].files[0] if suspects else "")
    except DataError as error:
        wrong = Item(f"{error}; that mask {suspects[0].text}", suspects[0].files, names_files=True)
        return FoundClasses(None, [Problem("configuration", [wrong], fix, overrides)])
    if not left_out or len(labels) < 2:
        return FoundClasses(names)
    absent = sorted(set(range(top)) - pixels.keys())
    fix = f"no mask has {_ranges(absent)}; if these are classes all the same, give dataset.num_classes={top + 1}. {fix}"
    gaps = Problem("class_gaps", suspects, fix.strip(" ."), overrides)
    return FoundClasses(names, [gaps], frozenset([*absent, *slips]))


def _held(record: Record) -> dict[int, int]:
    return record.mask.labels if record.mask is not None else {}


def _pixels(records: Sequence[Record], *, of: range, but: int) -> dict[int, list[int]]:
    """Return {label: its pixels in each mask that has it}."""
    pixels: dict[int, list[int]] = {}
    for record in records:
        for label, count in _held(record).items():
            if label in of and label != but:
                pixels.setdefault(label, []).append(count)
    return pixels


def _slips(pixels: Mapping[int, Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return the labels below and beyond the widest gap; all below where those beyond it are too many for slips."""
    labels = sorted(pixels)
    widths = [label - lower - 1 for lower, label in pairwise(labels)]
    if not any(widths):
        return labels, []
    place = max(range(len(widths)), key=lambda index: (widths[index], index)) + 1
    beyond = labels[place:]
    few = sum(sum(pixels[label]) for label in beyond) <= FEW * sum(map(sum, pixels.values()))
    return (labels[:place], beyond) if few and len(beyond) <= widths[place - 1] else (labels, [])


def _items(records: Sequence[Record], labels: Sequence[int]) -> list[Item]:
    items = []
    for record in records:
        held = [f"{label} ({count:,} pixels)" for label, count in _held(record).items() if label in labels]
        if held:
            items.append(Item(f"has {listed(held, 6)}", (record.mask_file,), record.split, record.index))
    return items


def _ranges(labels: Sequence[int]) -> str:
    """Return numbers in words: 1, 3 to 76."""
    runs: list[list[int]] = []
    for label in labels:
        if runs and runs[-1][-1] == label - 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return listed([str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs], 8)
