"""From a checked config to objects: the only file that instantiates."""

import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segtrain.adapt import adapt, normalize_for
from segtrain.callbacks.bad_samples import BadSamples
from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.ema import WeightEMA
from segtrain.callbacks.metrics_csv import MetricsCsv
from segtrain.callbacks.nonfinite import NonFinite
from segtrain.callbacks.plateau import StepPlateau
from segtrain.callbacks.stop import StopOnSignal
from segtrain.checkpoint_io import AtomicCheckpointIO
from segtrain.class_weights import resolve_class_weights
from segtrain.config.check import check_keys, report
from segtrain.config.facts import part_problems
from segtrain.config.optimization import is_plateau
from segtrain.config.targets import locate
from segtrain.data.augmentation import Augmentation
from segtrain.data.caching import choose_cache
from segtrain.data.classes import find_classes, numbered
from segtrain.data.datamodule import SPLITS, SegmentationData
from segtrain.data.images import ImageReader
from segtrain.data.labels import LabelMap
from segtrain.data.parts import Folds, Fraction
from segtrain.data.source import MakeSource
from segtrain.errors import UserError
from segtrain.hardware import choose_precision
from segtrain.inference.any_size import AnySize
from segtrain.logs import adopt_library_loggers
from segtrain.module import SegmentationModule
from segtrain.optimizers.fused import may_fuse
from segtrain.optimizers.groups import hidden_weights, lr_factor, parameter_groups
from segtrain.run_id import in_slurm
from segtrain.sync_norms import SyncNorms

log = logging.getLogger("segtrain")

Config = dict[str, Any]


def _build(path: str, node: Any, **arguments: Any) -> Any:
    """Instantiate a node; what its constructor refuses becomes a sentence with the key."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (ValueError, MisconfigurationException)):
            inner = re.search(r"full_key: (\S+)", str(error))  # the component inside this one that refused
            where = f"{path}.{inner[1]}" if inner else path
            names_argument = re.match(r"[a-z_]+: ", str(cause)) is not None
            raise UserError(f"{where}{'.' if names_argument else ': '}{cause}") from error
        raise


def build_data(cfg: Config, *, start: tuple[int, int] = (0, 0), test_split: str = "test") -> SegmentationData:
    """Return the loaders; `start` is where a resumed run goes on."""
    dataset, loader = cfg["dataset"], cfg["loader"]
    transforms = _build("augmentation", cfg["augmentation"]["transforms"] or [])
    mix = cfg["augmentation"].get("mix")
    source = build_source(dataset)
    if dataset["fraction"] < 1:
        source = Fraction(source, fraction=dataset["fraction"], seed=cfg["seed"])
    return SegmentationData(
        source,
        augmentation=Augmentation(transforms, ignore_index=dataset["ignore_index"]),
        mix=_build("augmentation.mix", mix) if mix else None,
        sampling=_build("sampling", cfg["sampling"]),
        cache=choose_cache(loader["cache"], folder=cfg["paths"]["cache"], dataset=dataset),
        num_classes=dataset["num_classes"],
        ignore_index=dataset["ignore_index"],
        labels=build_labels(dataset),
        splits=dict.fromkeys([*(dataset.get("splits") or SPLITS), *(["val"] if dataset["folds"] else [])]),
        batch_size=loader["batch_size"],
        eval_batch_size=loader["eval_batch_size"],
        num_workers=loader["num_workers"],
        skip_bad=loader["bad_samples"] == "skip",
        seed=cfg["seed"],
        start=start,
        repeat_epoch=bool(cfg["trainer"].get("overfit_batches")),
        test_split=test_split,
    )


def build_source(dataset: Config) -> MakeSource:
    """Return what opens a split: all of it, or what is another one's fold."""
    source: MakeSource = _build("dataset.source", dataset["source"], _partial_=True)
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


def build_model(cfg: Config, *, restore: bool = False) -> nn.Module:
    """Return the network; one that a checkpoint fills is built without pretrained weights, so nothing is downloaded."""
    node = _without_weights(cfg["model"]) if restore else cfg["model"]
    model = _build("model", node)
    if not isinstance(model, nn.Module):
        raise UserError(f"model._target_: {cfg['model']['_target_']} gives a {type(model).__name__}, not an nn.Module")
    return model


WEIGHT_KEYS = ("weights", "weights_backbone", "encoder_weights", "pretrained")  # torchvision's, SMP's and timm's too


def _without_weights(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: None if key in WEIGHT_KEYS and isinstance(value, str | bool) else _without_weights(value)
            for key, value in node.items()
        }
    return node


def build_module(
    cfg: Config, *, plain: Config, total_steps: int | None = None, restore: bool = False
) -> SegmentationModule:
    """Return the Lightning module.

    Args:
        cfg: the resolved config.
        plain: the config that its checkpoints carry.
        total_steps: of the schedule; None builds for evaluation only.
        restore: a checkpoint will fill the weights.
    """
    dataset = cfg["dataset"]
    model = build_model(cfg, restore=restore)
    adapt(model, cfg)
    if cfg["perf"]["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    encoder = getattr(model, "encoder", model)
    module = SegmentationModule(
        model,
        loss=_build("loss", cfg["loss"]),
        normalize=normalize_for(model, dataset),
        any_size=AnySize(stride=max(getattr(encoder, "strides", (32,))), **cfg["inference"]),
        class_names=dataset["class_names"],
        ignore_index=dataset["ignore_index"],
        optimizer=_optimizer_maker(cfg) if total_steps is not None else None,
        scheduler=_scheduler_maker(cfg, total_steps) if total_steps is not None else None,
        seed=None if cfg["deterministic"] == "none" else cfg["seed"],
        channels_last=cfg["perf"]["channels_last"],
        config=plain,
    )
    if cfg["compile"] and total_steps is not None:
        model.compile(dynamic=False)
    return module


def _optimizer_maker(cfg: Config) -> Callable[[nn.Module], Optimizer]:
    node = _scaled(cfg)
    target = locate(node["_target_"])
    groups = {key: value for key, value in cfg["param_groups"].items() if not key.startswith("lr_scaling")}
    clips = bool(cfg["trainer"].get("gradient_clip_val")) and not _precision(cfg["trainer"]).startswith(("32", "64"))

    def make(model: nn.Module) -> Optimizer:
        split = getattr(target, "splits_hidden_weights", False)
        hidden = hidden_weights(model, num_classes=cfg["dataset"]["num_classes"]) if split else None
        try:
            parameters = parameter_groups(model, lr=node.get("lr"), hidden=hidden, **groups)
        except ValueError as error:
            raise UserError(f"param_groups.{error}") from error
        trained = [parameter for group in parameters for parameter in group["params"]]
        fuse = {"fused": True} if may_fuse(target, node, trained, clips=clips) else {}
        given = {key: value for key, value in node.items() if (key, value) != ("fused", "auto")}
        return _build("optimizer", given | fuse, params=parameters)

    return make


def _scaled(cfg: Config) -> Config:
    """Return the optimizer's node with the learning rate that suits the batch size."""
    node, rule, base = cfg["optimizer"], cfg["param_groups"]["lr_scaling"], cfg["param_groups"]["lr_scaling_base"]
    if rule == "none":
        return dict(node)
    accumulated = cfg["trainer"].get("accumulate_grad_batches") or 1
    images = cfg["loader"]["batch_size"] * accumulated
    scaled = node["lr"] * lr_factor(rule, batch_size=images, base=base)
    log.info(f"learning rate {node['lr']:g} for steps of {base} images is {scaled:g} for {images} ({rule} scaling)")
    return {**node, "lr": scaled}


def _scheduler_maker(cfg: Config, total_steps: int) -> Callable[[Optimizer], LRScheduler] | None:
    if not cfg["scheduler"]:
        return None
    accepted = inspect.signature(locate(cfg["scheduler"]["_target_"])).parameters
    known = {"total_steps": total_steps, "monitor_mode": cfg["checkpoint"]["mode"]}
    extra = {name: value for name, value in known.items() if name in accepted}

    def make(optimizer: Optimizer) -> LRScheduler:
        return _build("scheduler", cfg["scheduler"], optimizer=optimizer, **extra)

    return make


def build_callbacks(cfg: Config, run: Path) -> list[pl.Callback]:
    """Return the run's callbacks: those of the config, the average of weights, checkpoints and metrics.csv."""
    policy, folder = cfg["checkpoint"], run / "checkpoints"
    own = [_build(f"callbacks.{name}", node) for name, node in (cfg["callbacks"] or {}).items() if node]
    if not cfg["logger"]:
        own = [callback for callback in own if not isinstance(callback, pl.callbacks.LearningRateMonitor)]
    if cfg["ema"]:
        own.append(WeightEMA(cfg["ema_decay"]))
    best = KeepBest(folder, monitor=policy["monitor"], mode=policy["mode"])
    if cfg["scheduler"] and is_plateau(locate(cfg["scheduler"]["_target_"])):
        own.append(StepPlateau(policy["monitor"]))
    csv = MetricsCsv(run / "metrics.csv", cfg["dataset"]["class_names"])
    last = KeepLast(
        folder,
        every_n_steps=policy["every_n_steps"],
        every_minutes=policy["every_minutes"],
        keep=policy["keep"],
    )
    watch = NonFinite(run, policy=cfg["nonfinite"], every_n_steps=cfg["trainer"].get("log_every_n_steps") or 10)
    return [watch, BadSamples(), *own, csv, best, last, StopOnSignal(last, requeue=in_slurm())]


def build_logger(cfg: Config, run: Path, *, purge_step: int | None = None) -> Logger | None:
    """Return the logger; a resumed run's TensorBoard forgets what lies behind `purge_step`."""
    node = cfg["logger"]
    if not node:
        return None
    extra: Config = {"purge_step": purge_step} if locate(node["_target_"]) is TensorBoardLogger else {}
    return _build("logger", node, save_dir=str(run), **extra)


def _precision(trainer: Config) -> str:
    """Return the precision that a Trainer's arguments ask for, or the best of its device for "auto"."""
    precision = str(trainer.get("precision") or "32-true")
    return choose_precision(trainer.get("accelerator", "auto")) if precision == "auto" else precision


def _starts_by_slurm() -> bool:
    """Say whether Lightning would take its ranks from SLURM: not in a shell inside a job, nor under torchrun there."""
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


EVALUATION_ARGUMENTS = ("_target_", "accelerator", "devices", "strategy", "num_nodes", "precision")


def build_trainer(
    cfg: Config,
    folder: Path,
    *,
    callbacks: list[pl.Callback],
    logger: Logger | None = None,
    evaluation: bool = False,
) -> pl.Trainer:
    """Return the Trainer; for evaluation only its device settings are taken from the config."""
    adopt_library_loggers()
    node = dict(cfg["trainer"])
    if evaluation:
        node = {key: node[key] for key in EVALUATION_ARGUMENTS if key in node}
    if "precision" in node:
        node["precision"] = _precision(node)
    node.setdefault("num_sanity_val_steps", 0)
    every, epochs = node.get("check_val_every_n_epoch"), node.get("max_epochs")
    if every and epochs and 0 < epochs < every:
        node["check_val_every_n_epoch"] = epochs  # a run shorter than the interval is scored at its end
    return _build(
        "trainer",
        node,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=logger or False,
        plugins=[
            AtomicCheckpointIO(folder / "checkpoints"),
            *([SyncNorms()] if node.get("sync_batchnorm") else []),
            *([SLURMEnvironment(auto_requeue=False)] if _starts_by_slurm() else []),  # `StopOnSignal` does it
        ],
        use_distributed_sampler=False,  # ours neither pads nor repeats
        deterministic=True if cfg["deterministic"] == "exact" else None,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=not evaluation,
    )
