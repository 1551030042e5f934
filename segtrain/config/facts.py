"""What a data set says of itself, and which of it cannot be: classes, void, channels, crops, fractions and folds."""

from collections.abc import Sequence
from typing import Any

FACTS = {"num_classes": int, "ignore_index": int, "class_names": list, "in_channels": int, "source": dict}


def fact_problems(dataset: dict[str, Any], *, needed: Sequence[str] = tuple(FACTS)) -> list[str]:
    """Return the facts that a data set does not say, or says as something else than they are."""
    problems = [f"dataset.{fact}: missing; a data set's YAML says it" for fact in needed if dataset.get(fact) is None]
    types = {fact: type_ for fact, type_ in FACTS.items() if fact != "source"}
    problems += [
        f"dataset.{fact}: {dataset[fact]!r} is not {type_.__name__}"
        for fact, type_ in types.items()
        if dataset.get(fact) is not None and (not isinstance(dataset[fact], type_) or dataset[fact] is True)
    ]
    return problems


def class_problems(dataset: dict[str, Any]) -> list[str]:
    """Return what does not fit between the facts of a data set: its classes, names, colours, void and channels."""
    if problems := fact_problems(dataset):
        return problems
    if dataset["num_classes"] < 2:
        return [f"dataset.num_classes: {dataset['num_classes']}; a background is a class too, give 2 or more"]
    count, names, ignored = dataset["num_classes"], dataset["class_names"], dataset["ignore_index"]
    if len(names) != count:
        problems.append(f"dataset.class_names: {len(names)} names for dataset.num_classes={count}; give one a class")
    if len(set(names)) != len(names):
        problems.append(f"dataset.class_names: {names} has a name twice; metrics are logged by name")
    if 0 <= ignored < count:
        problems.append(
            f"dataset.ignore_index: {ignored} is one of the classes 0 to {count - 1}; give a value outside, such as 255"
        )
    palette = dataset.get("palette")
    if palette is not None and len(palette) != count:
        problems.append(f"dataset.palette: {len(palette)} colours for dataset.num_classes={count}; give one a class")
    own = str(dataset["source"].get("_target_", "")).startswith("segtrain.data.")
    if dataset["in_channels"] != 3 and own and "image" not in dataset["source"]:
        problems.append(f"dataset.in_channels: {dataset['in_channels']}, but this data set gives RGB images; give 3")
    if dataset["in_channels"] < 1:
        problems.append(f"dataset.in_channels: {dataset['in_channels']} channels; give 1 or more")
    mapped = {label for label in (dataset.get("label_map") or {}).values() if label is not None}
    if outside := sorted(label for label in mapped if not 0 <= label < count and label != ignored):
        problems.append(f"dataset.label_map: gives the classes {outside}, and there are 0 to {count - 1}")
    return problems


def crop_size(cfg: dict[str, Any]) -> tuple[str, int | None]:
    """Return the side of a training crop in pixels, None if the augmentation has none, and the key that says it."""
    own, shared = (cfg[group].get("crop_size") for group in ("augmentation", "dataset"))
    return ("augmentation.crop_size", own) if own not in (None, shared) else ("dataset.crop_size", shared)


def crop_problems(cfg: dict[str, Any]) -> list[str]:
    """Refuse crops that no encoder can take; one that two keys give is reported once."""
    sizes = {f"{group}.crop_size": (cfg[group] or {}).get("crop_size") for group in ("dataset", "augmentation")}
    if sizes["augmentation.crop_size"] == sizes["dataset.crop_size"]:
        del sizes["augmentation.crop_size"]
    problems = []
    for key, crop in sizes.items():
        if crop is not None and (not isinstance(crop, int) or crop is True):
            problems.append(f"{key}: {crop!r} is not int")
        elif crop is not None and crop < 32:
            problems.append(f"{key}: {crop} is smaller than 32 pixels, the coarsest stride of the encoders")
    return problems


def part_problems(dataset: dict[str, Any]) -> list[str]:
    """Refuse shares and folds that there cannot be."""
    fraction, folds, fold = (dataset.get(key) for key in ("fraction", "folds", "fold"))
    problems = []
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 < fraction <= 1:
        problems.append(f"dataset.fraction: {fraction!r} is not above 0 to 1, a share of the training images")
    if folds is None:
        if fold != 0:
            problems.append(f"dataset.fold: {fold!r} of what? Give dataset.folds, such as dataset.folds=5")
    elif not isinstance(folds, int) or isinstance(folds, bool) or folds < 2:
        problems.append(f"dataset.folds: {folds!r} is not a number of 2 or more; null is no cross-validation")
    elif not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < folds:
        problems.append(f"dataset.fold: {fold!r} is not one of the folds 0 to {folds - 1}")
    return problems
