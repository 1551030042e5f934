"""From a checked config to the Trainer, its callbacks and its logger."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies.launchers import subprocess_script

from segtrain import ranks
from segtrain.build.node import build_node
from segtrain.callbacks.bad_samples import BadSamples
from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.ema import WeightEMA
from segtrain.callbacks.failing import Failing
from segtrain.callbacks.metrics_csv import MetricsCsv
from segtrain.callbacks.nonfinite import NonFinite
from segtrain.callbacks.plateau import StepPlateau
from segtrain.callbacks.stop import StopOnSignal
from segtrain.checkpoint_io import AtomicCheckpointIO
from segtrain.config.optimization import is_plateau
from segtrain.config.targets import locate
from segtrain.hardware import precision_of
from segtrain.logs import adopt_library_loggers
from segtrain.run_id import in_slurm
from segtrain.sync_norms import SyncNorms

Config = dict[str, Any]


def build_callbacks(cfg: Config, run: Path) -> list[pl.Callback]:
    """Return the run's callbacks: those of the config, the average of weights, checkpoints and metrics.csv."""
    policy, folder = cfg["checkpoint"], run / "checkpoints"
    own = [build_node(f"callbacks.{name}", node) for name, node in (cfg["callbacks"] or {}).items() if node]
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
    return [Failing(), watch, BadSamples(), *own, csv, best, last, StopOnSignal(last, requeue=in_slurm())]


def build_logger(cfg: Config, run: Path, *, purge_step: int | None = None) -> Logger | None:
    """Return the logger; a resumed run's TensorBoard forgets what lies behind `purge_step`."""
    node = cfg["logger"]
    if not node:
        return None
    extra: Config = {"purge_step": purge_step} if locate(node["_target_"]) is TensorBoardLogger else {}
    return build_node("logger", node, save_dir=str(run), **extra)


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
    if ranks.in_job():
        subprocess_script._launch_process_observer = ranks.children_started  # type: ignore[attr-defined]
    node = dict(cfg["trainer"])
    if evaluation:
        node = {key: node[key] for key in EVALUATION_ARGUMENTS if key in node}
    if "precision" in node:
        node["precision"] = precision_of(node)
    node.setdefault("num_sanity_val_steps", 0)
    every, epochs = node.get("check_val_every_n_epoch"), node.get("max_epochs")
    if every and epochs and 0 < epochs < every:
        node["check_val_every_n_epoch"] = epochs  # a run shorter than the interval is scored at its end
    trainer = build_node(
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
    # with several processes Lightning asks the device at every step whether a signal came; `StopOnSignal` asks without
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer
