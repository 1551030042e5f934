"""From a checked config to the Trainer, its callbacks and its logger."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies.launchers import subprocess_script

from segtrain import ranks
from segtrain.build.data import build_progressive
from segtrain.build.node import build_node
from segtrain.callbacks.bad_samples import BadSamples
from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.crop_sizes import CropSizes
from segtrain.callbacks.early_stop import EarlyStop
from segtrain.callbacks.ema import WeightEMA
from segtrain.callbacks.failing import Failing
from segtrain.callbacks.metrics_csv import MetricsCsv
from segtrain.callbacks.nonfinite import NonFinite
from segtrain.callbacks.plateau import StepPlateau
from segtrain.callbacks.stop import StopOnSignal
from segtrain.callbacks.swa import WeightSWA
from segtrain.callbacks.training_loss import TrainingLoss
from segtrain.callbacks.unfreeze import Unfreeze
from segtrain.checkpoint_io import AtomicCheckpointIO
from segtrain.clusters.slurm import this_task
from segtrain.clusters.slurm_ranks import SlurmRanks, task_device
from segtrain.clusters.torchrun import torchrun_layout
from segtrain.config.facts import crop_size
from segtrain.config.optimization import is_plateau
from segtrain.config.sharding import shards
from segtrain.config.slurm import BY_TASK
from segtrain.config.targets import locate
from segtrain.hardware import precision_of
from segtrain.logs import adopt_library_loggers
from segtrain.run_id import in_slurm
from segtrain.schedulers import validation_interval
from segtrain.sync_norms import SyncNorms

Config = dict[str, Any]


def build_callbacks(cfg: Config, run: Path, *, total_steps: int) -> list[pl.Callback]:
    """Return the run's callbacks: those of the config, those of its recipe, checkpoints and metrics.csv.

    Args:
        cfg: the resolved config.
        run: the run folder.
        total_steps: optimizer steps of the whole run.
    """
    policy, folder = cfg["checkpoint"], run / "checkpoints"
    own = [build_node(f"callbacks.{name}", node) for name, node in (cfg["callbacks"] or {}).items() if node]
    if not cfg["logger"]:
        own = [callback for callback in own if not isinstance(callback, pl.callbacks.LearningRateMonitor)]
    own += _recipe(cfg, total_steps)
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
    stop = StopOnSignal(last, requeue=in_slurm())
    return [Failing(), TrainingLoss(), watch, BadSamples(), *own, csv, best, last, stop]


def _recipe(cfg: Config, total_steps: int) -> list[pl.Callback]:
    """Return what makes the average of weights, unfreezes stages, says how crops grow, and ends training early."""
    found: list[pl.Callback] = []
    if cfg["ema"]:
        found.append(WeightEMA(cfg["ema_decay"]))
    if cfg["swa"]:
        start = round(cfg["swa_start"] * total_steps)
        base_lr = cfg["optimizer"].get("lr")
        found.append(WeightSWA(start, total_steps=total_steps, lr=cfg["swa_lr"], base_lr=base_lr))
    if cfg["unfreeze_epoch"] is not None:
        found.append(Unfreeze(cfg["unfreeze_epoch"]))
    if progressive := build_progressive(cfg):
        found.append(CropSizes(progressive, crop_size(cfg)[1]))
    if cfg["early_stopping"] is not None:
        policy = cfg["checkpoint"]
        found.append(EarlyStop(policy["monitor"], mode=policy["mode"], patience=cfg["early_stopping"]))
    return found


def build_logger(cfg: Config, run: Path, *, purge_step: int | None = None) -> Logger | None:
    """Return the logger; a resumed run's TensorBoard forgets what lies behind `purge_step`."""
    node = cfg["logger"]
    if not node:
        return None
    extra: Config = {"purge_step": purge_step} if locate(node["_target_"]) is TensorBoardLogger else {}
    return build_node("logger", node, save_dir=str(run), **extra)


def _place_in_slurm(node: Config) -> list[ClusterEnvironment]:
    """Give a Trainer's arguments the device and number of SLURM's tasks; return what tells Lightning the ranks.

    Elsewhere inside a job, the variables of which would make Lightning wait for tasks that nobody started, a process
    starts its own; under torchrun Lightning sees by itself.
    """
    task, by_task = this_task(), node.get("devices") == BY_TASK
    if task is not None and by_task:
        on_gpu = node.get("accelerator") != "cpu" and torch.cuda.is_available()
        gpu = task_device(task, visible=torch.cuda.device_count())
        node |= {"devices": [gpu] if on_gpu else 1, "num_nodes": task.count}
        return [SlurmRanks(task)]
    if by_task:
        node["devices"] = 1  # scores a checkpoint outside of the job that trained it
    return [LightningEnvironment()] if "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect() else []


EVALUATION_ARGUMENTS = ("_target_", "accelerator", "devices", "strategy", "num_nodes", "precision")


def build_trainer(
    cfg: Config,
    folder: Path,
    *,
    callbacks: list[pl.Callback],
    logger: Logger | None = None,
    evaluation: bool = False,
    batches_per_epoch: int | None = None,
) -> pl.Trainer:
    """Return the Trainer; for evaluation only its device settings are taken from the config.

    Args:
        cfg: the resolved config.
        folder: where checkpoints go.
        callbacks: all of them.
        logger: or None.
        evaluation: it scores and does not train.
        batches_per_epoch: of one device, for a run that a number of steps may end before its first validation.
    """
    adopt_library_loggers()
    if ranks.in_job():
        subprocess_script._launch_process_observer = ranks.children_started  # type: ignore[attr-defined]
    node = dict(cfg["trainer"])
    if evaluation:
        node = {key: node[key] for key in EVALUATION_ARGUMENTS if key in node}
        if shards(node):  # evaluation holds whole weights, so sharing them out gains nothing
            node["strategy"] = "auto" if node.get("devices") in (1, "1", [0]) else "ddp"
    elif shards(node):
        node["inference_mode"] = False  # weights that validation gathers are trained on after it
    clusters = _place_in_slurm(node)
    if "precision" in node:
        node["precision"] = precision_of(node)
    node |= torchrun_layout(node)
    node.setdefault("num_sanity_val_steps", 0)
    node |= validation_interval(node, batches_per_epoch)
    trainer = build_node(
        "trainer",
        node,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=logger or False,
        plugins=[
            AtomicCheckpointIO(folder / "checkpoints"),
            *([SyncNorms()] if node.get("sync_batchnorm") else []),
            *clusters,
        ],
        use_distributed_sampler=False,  # ours neither pads nor repeats
        deterministic=True if cfg["deterministic"] == "exact" else None,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=not evaluation,
    )
    # with several processes Lightning asks the device at every step whether a signal came; `StopOnSignal` asks without
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    # its own handlers end a run with status 0, or wait for ranks that got no signal
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer
