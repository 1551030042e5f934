"""What is wrong between samples and between splits: the same image twice, and classes that are not there."""

from collections.abc import Container, Sequence

from segtrain.config.suggest import listed
from segtrain.dataset_check.problem import Item, Problem
from segtrain.dataset_check.record import Record


def split_problems(
    records: Sequence[Record],
    *,
    class_names: Sequence[str] | None,
    labels_wrong: bool = False,
    told: Container[int] = (),
) -> list[Problem]:
    """Return the problems that several samples have together.

    Args:
        records: of all samples.
        class_names: C names; None where they are not known.
        labels_wrong: masks have labels that are no classes, so that a class which none has is not told again.
        told: classes whose absence has been told.
    """
    return [*_copies(records), *_absent(records, class_names or (), labels_wrong=labels_wrong, told=told)]


def _copies(records: Sequence[Record]) -> list[Problem]:
    """Find images of the same pixels; those of one value everywhere are nobody's copy."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.image is not None and not record.image.constant:
            groups.setdefault(record.image.digest, []).append(record)
    leaks, copies, disagreeing = [], [], []
    for same in groups.values():
        if len(same) < 2:
            continue
        splits = sorted({record.split for record in same}, key=[record.split for record in same].index)
        files = tuple(record.image_file for record in same)
        masks = {record.mask.digest for record in same if record.mask is not None}
        place = same[-1].split, same[-1].index
        if len(masks) > 1:
            parts = tuple(record.mask_file for record in same if record.mask is not None)
            disagreeing.append(Item(f"{len(same)} copies, {len(masks)} different masks", files + parts, *place))
        if len(splits) > 1:
            leaks.append(Item(f"in {' and '.join(splits)}", files, *place))
        elif len(masks) < 2:
            copies.append(Item(f"{len(same)} times in {splits[0]}", files, *place))
    return [Problem("leak", leaks, _advice(leaks)), Problem("other_mask", disagreeing), Problem("duplicate", copies)]


def _advice(leaks: Sequence[Item]) -> str:
    return "leave each in one split, the one that is scored" if leaks else ""


def _absent(
    records: Sequence[Record], class_names: Sequence[str], *, labels_wrong: bool, told: Container[int]
) -> list[Problem]:
    """Find the classes that a split lacks: a sentence a split, and one for those that all lack."""
    masks = [record for record in records if record.mask is not None]
    splits = list(dict.fromkeys(record.split for record in masks))
    held = {split: {label for r in masks if r.mask and r.split == split for label in r.mask.labels} for split in splits}
    classes = [label for label in range(len(class_names)) if label not in told]
    nowhere = [label for label in classes if splits and not any(label in held[split] for split in splits)]
    items = [] if labels_wrong else _lacking(nowhere, class_names, "no mask at all", None)
    for split in splits:
        lacking = [label for label in classes if label not in held[split] and label not in nowhere]
        items += _lacking(lacking, class_names, f"no mask of {split}", split)
    return [Problem("absent_class", items)]


def _lacking(labels: Sequence[int], class_names: Sequence[str], where: str, split: str | None) -> list[Item]:
    which = listed([f"{label} ({class_names[label]})" for label in labels], 8)
    if len(labels) < 2:
        return [Item(f"class {which} is in {where}", (), split) for _ in labels]
    return [Item(f"{len(labels)} classes are in {where}: {which}", (), split)]
