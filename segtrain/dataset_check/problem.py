"""What can be wrong with a data set, how grave it is, and the overrides that mend it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]

# kind: (severity, what it says of the files that have it); an error keeps training from starting or makes it worthless
KINDS: dict[str, tuple[Severity, str]] = {
    "configuration": ("error", "the configuration does not fit the data"),
    "listing": ("error", "a split cannot be listed"),
    "no_test_split": ("warning", "there is no test split; train with test=false"),
    "wrong_row": ("error", "rows of the table that cannot be used"),
    "wrong_annotation": ("error", "annotations without a known image, a known category or an area"),
    "missing_file": ("error", "files that are not there"),
    "missing_mask": ("error", "images without a mask"),
    "missing_image": ("error", "images that lack a file of their stack"),
    "extra_mask": ("warning", "masks without an image"),
    "ambiguous_name": ("error", "two files of one name"),
    "listed_not_there": ("error", "names in a list that no image has"),
    "empty_file": ("error", "empty files"),
    "truncated": ("error", "files that end too early; copy them again or leave them out"),
    "no_image": ("error", "files that are of no kind that is read, whatever their name says"),
    "unreadable": ("error", "files that cannot be read"),
    "exception": ("error", "samples that the data set's own code fails on"),
    "refused": ("error", "samples that the data set refuses"),
    "no_array": ("error", "samples that are not arrays as segtrain needs them"),
    "polygons": ("error", "polygons or run lengths that cannot be drawn"),
    "channels": ("error", "images with another number of channels than dataset.in_channels"),
    "parts_differ": ("error", "files of one sample that differ in size"),
    "not_finite": ("error", "images with NaN or infinity"),
    "values": ("error", "images with values beyond their range"),
    "depth": ("error", "images of another depth than the rest"),
    "size_mismatch": ("error", "masks of another size than their image"),
    "jpeg_mask": ("error", "masks saved as JPEG, which changes values near edges; save them as PNG"),
    "rgb_mask": ("error", "masks that hold colours where class ids are wanted"),
    "grey_mask": ("error", "masks with one channel where colours are wanted"),
    "unknown_color": ("error", "masks with colours that dataset.palette does not have"),
    "binary_mask": ("error", "masks of 0 and 255 that are read as class ids"),
    "mixed_binary_mask": ("warning", "masks of 0 and 255 among masks of 0 and 1, where 255 is void"),
    "label_range": ("error", "masks with labels that are neither a class nor void"),
    "other_mask": ("error", "the same image with different masks"),
    "leak": ("error", "the same image in two splits, so a score is of images that were trained on"),
    "duplicate": ("warning", "the same image several times in one split"),
    "blank_image": ("warning", "images whose pixels are all alike"),
    "void_mask": ("warning", "masks that are void everywhere, so nothing is learnt from them"),
    "class_gaps": ("warning", "labels that leave numbers out below them; training makes a class of every number"),
    "absent_class": ("warning", "classes that a split does not have"),
    "orientation": ("warning", "images that viewers turn by their EXIF orientation, and segtrain does not"),
    "small_image": ("info", "images smaller than dataset.crop_size; they are padded in training"),
}
ORDER = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Item:
    """One place that has a problem.

    Args:
        text: the sentence.
        files: that it concerns, the one to look at first; none for a split as a whole.
        split: that it was found in, if in one.
        index: of the sample, if there is one.
        names_files: the sentence names the files itself.
    """

    text: str
    files: tuple[str, ...] = ()
    split: str | None = None
    index: int | None = None
    names_files: bool = False


@dataclass
class Problem:
    """All places with a problem of one kind.

    Args:
        kind: one of `KINDS`.
        items: the places.
        fix: what to do, in a sentence, where more can be said than the kind says.
        overrides: for the command line, that make the data set usable as it is.
    """

    kind: str
    items: list[Item]
    fix: str = ""
    overrides: list[str] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return KINDS[self.kind][0]

    @property
    def what(self) -> str:
        """What it says of its files."""
        return KINDS[self.kind][1]


def gather(problems: Sequence[Problem]) -> list[Problem]:
    """Return one problem a kind, errors first; a place that was found twice counts once."""
    merged: dict[str, Problem] = {}
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for problem in problems:
        into = merged.setdefault(problem.kind, Problem(problem.kind, []))
        for item in problem.items:
            if (problem.kind, item.text, item.files) not in seen:
                seen.add((problem.kind, item.text, item.files))
                into.items.append(item)
        into.fix = into.fix or problem.fix
        into.overrides = into.overrides or problem.overrides
    severities = ("error", "warning", "info")
    found = [problem for problem in merged.values() if problem.items]
    return sorted(found, key=lambda problem: (severities.index(problem.severity), ORDER[problem.kind]))


def override(dataset: Mapping[str, Any], key: str, value: str) -> str:
    """Return the override of a key of the data set, which its YAML may not have yet."""
    return f"{'' if key in dataset else '++'}dataset.{key}={value}"


def on_command_line(overrides: Sequence[str]) -> str:
    """Return overrides as they are typed in a shell."""
    return " ".join(shlex.quote(text) for text in overrides)
