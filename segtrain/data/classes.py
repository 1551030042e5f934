"""Which classes a data set has, where its configuration does not say: read off the masks of the training split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtrain.data.labels import LabelMap
from segtrain.data.source import Source, mask_of, names_of
from segtrain.data.threads import each_sample
from segtrain.errors import DataError

MOST = 256  # classes; more are instance numbers or colours, not classes


def find_classes(source: Source, *, dataset: Mapping[str, Any], labels: LabelMap | None) -> list[str]:
    """Return the names of the classes 0 to the highest label of a source's masks.

    The names are the source's own `class_names`, the lines of ROOT/classes.txt, or class_0, class_1, ...

    Args:
        source: the training split.
        dataset: the data set's configuration: `ignore_index`, `root`, `palette`.
        labels: from the masks' values to labels.

    Raises:
        DataError: if a mask cannot be read, or has more labels than a data set of classes has.
    """
    if (stated := stated_classes(source, dataset=dataset)) is not None:
        return stated

    def highest(index: int) -> int:
        mask = mask_of(source, index)
        mask = mask if labels is None else labels(mask)
        valid = mask[mask != dataset["ignore_index"]]
        return int(valid.max(initial=0))

    tops = list(each_sample(source, highest))
    top = max(tops, default=0)
    return numbered_classes(top, name=names_of(source, tops.index(top))[1] if tops else "")


def stated_classes(source: Any, *, dataset: Mapping[str, Any]) -> list[str] | None:
    """Return the names that the source, ROOT/classes.txt or the palette says; None where only the masks can."""
    names = getattr(source, "class_names", None)
    if names:
        return [str(name) for name in names]
    listed = Path(str(dataset.get("root") or "")).expanduser() / "classes.txt"
    if dataset.get("root") and listed.is_file():
        return [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    return numbered(len(dataset["palette"])) if dataset.get("palette") else None


def numbered_classes(top: int, *, name: str) -> list[str]:
    """Return names for the labels 0 to the highest of the training masks, at least two.

    Args:
        top: the highest label.
        name: of a mask that has it.

    Raises:
        DataError: if there are more than a data set of classes has.
    """
    if top >= MOST:
        raise DataError(
            f"dataset.num_classes: the masks have labels up to {top} (in {name}), and more than {MOST} are no classes; "
            "is dataset.mask right (instances), or give dataset.num_classes"
        )
    return numbered(max(top + 1, 2))


def numbered(count: int) -> list[str]:
    """Return class_0, class_1, ..."""
    return [f"class_{number}" for number in range(count)]
