"""From a checked config to the data: what opens a split, its classes, its loaders."""

import logging
from typing import Any

from omegaconf import DictConfig

from segtrain.build.node import build_node
from segtrain.class_weights import resolve_class_weights
from segtrain.config.check import check_keys, report
from segtrain.config.facts import part_problems
from segtrain.data.augmentation import Augmentation
from segtrain.data.caching import choose_cache
from segtrain.data.classes import find_classes, numbered
from segtrain.data.datamodule import SPLITS, SegmentationData
from segtrain.data.images import ImageReader
from segtrain.data.labels import LabelMap
from segtrain.data.parts import Folds, Fraction
from segtrain.data.progressive import Progressive
from segtrain.data.source import MakeSource

log = logging.getLogger("segtrain")

Config = dict[str, Any]


def build_data(cfg: Config, *, start: tuple[int, int] = (0, 0), test_split: str = "test") -> SegmentationData:
    """Return the loaders; `start` is where a resumed run goes on."""
    dataset, loader = cfg["dataset"], cfg["loader"]
    transforms = build_node("augmentation", cfg["augmentation"]["transforms"] or [])
    mix = cfg["augmentation"].get("mix")
    source = build_source(dataset)
    if dataset["fraction"] < 1:
        source = Fraction(source, fraction=dataset["fraction"], seed=cfg["seed"])
    return SegmentationData(
        source,
        augmentation=Augmentation(transforms, ignore_index=dataset["ignore_index"]),
        progressive=build_progressive(cfg),
        mix=build_node("augmentation.mix", mix) if mix else None,
        sampling=build_node("sampling", cfg["sampling"]),
        cache=choose_cache(loader["cache"], folder=cfg["paths"]["cache"], dataset=dataset),
        num_classes=dataset["num_classes"],
        ignore_index=dataset["ignore_index"],
        labels=build_labels(dataset),
        splits=dict.fromkeys([*(dataset.get("splits") or SPLITS), *(["val"] if dataset["folds"] else [])]),
        batch_size=loader["batch_size"],
        accumulation=cfg["trainer"].get("accumulate_grad_batches") or 1,
        eval_batch_size=loader["eval_batch_size"],
        num_workers=loader["num_workers"],
        skip_bad=loader["bad_samples"] == "skip",
        seed=cfg["seed"],
        start=start,
        repeat_epoch=bool(cfg["trainer"].get("overfit_batches")),
        test_split=test_split,
    )


def build_progressive(cfg: Config) -> Progressive | None:
    """Return what makes the crops of some epochs smaller; None for crops of one size, and where nothing is trained."""
    shares = cfg.get("progressive")
    return Progressive(shares, epochs=cfg["trainer"]["max_epochs"]) if shares else None


def build_source(dataset: Config) -> MakeSource:
    """Return what opens a split: all of it, or what is another one's fold."""
    source: MakeSource = build_node("dataset.source", dataset["source"], _partial_=True)
    if dataset["folds"] is not None:
        joined = [split for split in ("train", "val") if split in (dataset.get("splits") or SPLITS)]
        source = Folds(source, folds=dataset["folds"], fold=dataset["fold"], joined=joined)
    return source


def build_labels(dataset: Config) -> LabelMap:
    """Return what makes labels of the values in the data set's masks."""
    return LabelMap(
        dataset.get("label_map"),
        ignore_index=dataset["ignore_index"],
        reduce_zero_label=bool(dataset.get("reduce_zero_label")),
    )


def complete_classes(cfg: DictConfig, values: Config, schema: type) -> Config:
    """Return the resolved config with the data set's classes, in `cfg` too, read off its masks where they are null.

    Args:
        cfg: the composed config.
        values: what `check_keys` made of it.
        schema: the command's.

    Raises:
        UserError: if the masks cannot be read.
    """
    dataset = values["dataset"]
    names, count = dataset.get("class_names"), dataset.get("num_classes")
    if names is not None and count is not None:
        return values
    if names is None and count is not None:
        names = numbered(count)
    elif names is None:
        report(part_problems(dataset))  # before masks are read for folds that there cannot be
        source = build_source(dataset)
        labelled = source.whole() if isinstance(source, Folds) else source(split="train")
        names = find_classes(labelled, dataset=dataset, labels=build_labels(dataset))
        log.info(f"found {len(names)} classes: {', '.join(names)}")
    cfg.dataset.update({"num_classes": count or len(names), "class_names": names})
    return check_keys(cfg, schema)


def weigh_classes(cfg: DictConfig, values: Config, data: SegmentationData, schema: type) -> Config:
    """Return the resolved config with numbers where the loss names a weighting; in `cfg`, for checkpoints, too."""
    loss = resolve_class_weights(values["loss"], data.class_weights)
    if loss == values["loss"]:
        return values
    cfg.loss = loss
    return check_keys(cfg, schema)


def build_reader(cfg: Config) -> ImageReader:
    """Return what reads images as the data set's are."""
    dataset = cfg["dataset"]
    return ImageReader(channels=dataset["in_channels"], value_range=dataset.get("value_range"))
