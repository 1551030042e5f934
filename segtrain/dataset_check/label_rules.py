"""Are the masks' values class ids, and if not, what makes them so?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segtrain.config.suggest import listed
from segtrain.data.labels import LabelMap
from segtrain.data.sample_check import Habit, habit_of
from segtrain.dataset_check.problem import Item, Problem, override
from segtrain.dataset_check.record import MOST_COLORS, Record

MOST_LABELS = 64  # more are numbers of objects


def label_problems(
    records: Sequence[Record], *, dataset: Mapping[str, Any], num_classes: int | None, labels: LabelMap
) -> list[Problem]:
    """Return the problems of the masks' values.

    Args:
        records: of all samples.
        dataset: the data set's configuration, for what it can be told.
        num_classes: C; None where it is not known, and no label is outside.
        labels: from values to labels.
    """
    problems = _colors(records, dataset, num_classes)
    if num_classes is None:
        return problems
    ignored = int(dataset["ignore_index"])
    masks = [record for record in records if record.mask is not None]
    if binary := _binary(masks, dataset, num_classes, labels):
        return problems + binary
    return problems + _outside(masks, dataset, num_classes, ignored) + _void(masks, ignored)


def _binary(masks: Sequence[Record], dataset: Mapping[str, Any], num_classes: int, labels: LabelMap) -> list[Problem]:
    """Find masks of 0 and 255 in a data set of two classes: with 255 as void nothing else would complain."""
    white = int(labels(np.array([255], np.int64))[0])
    count = num_classes if dataset.get("num_classes") is not None else 2  # else found, as 256 where 255 is not void
    if count != 2 or 0 <= white < count:
        return []
    held = [(record, set(record.mask.values)) for record in masks if record.mask is not None]
    items = [
        Item("holds 0 and 255", (record.mask_file,), record.split, record.index)
        for record, values in held
        if 255 in values
    ]
    every = set().union(*(values for _, values in held))
    if not items or not every <= {0, 1, 255}:
        return []
    fix, overrides = "255 is the object: save 1 in its place", [override(dataset, "label_map", "{255: 1}")]
    if "mask" in dataset:
        fix, overrides = "255 is the object", ["dataset.mask=binary"]
    if every <= {0, 255}:
        return [Problem("binary_mask", items, fix, overrides)]
    apart = all(values <= {0, 255} for _, values in held if 255 in values)
    if white == dataset["ignore_index"] and apart:
        return [Problem("mixed_binary_mask", items, f"if {fix}", overrides)]
    return []


def _outside(masks: Sequence[Record], dataset: Mapping[str, Any], num_classes: int, ignored: int) -> list[Problem]:
    """Find labels that are neither a class nor void, and the label map that mends all of them at once."""
    items: list[Item] = []
    found: set[int] = set()
    files: Counter[int] = Counter()
    pixels: Counter[int] = Counter()
    for record in masks:
        assert record.mask is not None
        held = record.mask.labels
        wrong = {label: n for label, n in held.items() if not 0 <= label < num_classes and label != ignored}
        found |= set(held) - {ignored}
        if wrong:
            files.update(wrong.keys())
            pixels.update(wrong)
            text = "has " + listed([f"{label} ({count:,} pixels)" for label, count in wrong.items()], 6)
            items.append(Item(text, (record.mask_file,), record.split, record.index))
    if not items:
        return []
    fix, overrides = mend(sorted(found), sorted(files), dataset, num_classes)
    counts = listed([f"{label} ({pixels[label]:,} pixels, files: {files[label]})" for label in sorted(files)], 12)
    return [Problem("label_range", items, f"classes are 0 to {num_classes - 1}; found {counts}. {fix}", overrides)]


def mend(found: list[int], outside: list[int], dataset: Mapping[str, Any], num_classes: int) -> tuple[str, list[str]]:
    """Return what would make all labels classes or void, in words and as overrides.

    Args:
        found: all labels but void, ascending.
        outside: those that are no class.
        dataset: its configuration.
        num_classes: C.
    """
    plain = not dataset.get("label_map") and not dataset.get("reduce_zero_label")
    if len(outside) > MOST_LABELS:
        if "mask" in dataset and num_classes == 2:
            return "These are numbers of objects, all of one class", ["dataset.mask=instances"]
        return f"{len(outside)} labels are no classes; are these numbers of objects?", []
    void: dict[int, int | None] = {value: None for value in found if value < 0}  # as -1 commonly is
    rest = [value for value in found if value >= 0]
    if habit_of(rest, num_classes) is Habit.FROM_ONE and plain:
        text = "The ids start at 1, and 0 may be void"
        return text, [override(dataset, "reduce_zero_label", "true"), *_map(dataset, void)]
    if len(rest) == num_classes and max(rest) >= num_classes and plain:
        mapping = {value: label for label, value in enumerate(rest) if value != label}
        text = f"The values {rest} would be the classes 0 to {num_classes - 1} in this order"
        return text, _map(dataset, {**void, **mapping})
    if outside == list(void):
        return "Negative labels are commonly void, and these would be", _map(dataset, void)
    text = "These would be void; if some are classes, correct dataset.num_classes or name theirs"
    return text, _map(dataset, dict.fromkeys(outside))


def _map(dataset: Mapping[str, Any], mapping: Mapping[int, int | None]) -> list[str]:
    return [override(dataset, "label_map", _mapping(mapping))] if mapping else []


def _mapping(mapping: Mapping[int, int | None]) -> str:
    inner = ", ".join(f"{value}: {'null' if label is None else label}" for value, label in mapping.items())
    return f"{{{inner}}}"


def _void(masks: Sequence[Record], ignored: int) -> list[Problem]:
    items = [
        Item("has no labelled pixel", (record.mask_file,), record.split, record.index)
        for record in masks
        if record.mask is not None and set(record.mask.labels) == {ignored}
    ]
    return [Problem("void_mask", items)]


def _colors(records: Sequence[Record], dataset: Mapping[str, Any], num_classes: int | None) -> list[Problem]:
    """Word the faults of masks in colours, with the palette that would read them where all masks are such."""
    coloured = [record for record in records if record.colors]
    if not coloured:
        return []
    items = [
        Item(f"has {_number(len(record.colors))} colours: {_rgb(record)}", (fault.file,), record.split, record.index)
        for record in coloured
        for fault in record.faults
        if fault.kind == "rgb_mask"
    ]
    palette = sorted({color for record in coloured for color in record.colors})
    text = "[" + ",".join(f"[{red},{green},{blue}]" for red, green, blue in palette) + "]"
    fix, overrides = f"save the ids as 8-bit PNGs; the {len(palette)} colours are {text}", []
    if len(palette) > MOST_COLORS:
        fix = f"more than {MOST_COLORS} colours are no classes: these are photographs, or drawings with soft edges"
    elif any(record.mask for record in records):
        fix += f"; {sum(record.mask is not None for record in records)} other masks hold ids, so no key reads both"
    elif "mask" not in dataset:
        fix += "; or write a YAML like dataset/folder, whose mask=colors reads them"
    else:
        fix = f"the {len(palette)} colours in the files are the palette; its order is that of the classes"
        overrides = ["dataset.mask=colors", override(dataset, "palette", text)]
        given = dataset.get("num_classes")
        if given is not None and given != len(palette):
            fix = f"the files have {len(palette)} colours and dataset.num_classes is {given}; correct it, or give some "
            fix += f"of {text} as dataset.void_colors and the others as dataset.palette, with dataset.mask=colors"
            overrides = []
    return [Problem("rgb_mask", items, fix, overrides)]


def _number(colors: int) -> str:
    return f"more than {MOST_COLORS}" if colors > MOST_COLORS else str(colors)


def _rgb(record: Record) -> str:
    return listed([str(list(color)) for color in record.colors], 4)
