"""The steps of the train command: prepare the folder, fit, test the best checkpoint, report."""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from segtrain import tensorboard
from segtrain.callbacks.checkpoints import KeepBest
from segtrain.callbacks.metrics_csv import read_rows
from segtrain.callbacks.stop import Stopped
from segtrain.checkpoint import (
    BEST,
    LAST,
    count_in_parts,
    load_weights,
    older_names,
    position,
    read_checkpoint,
    resume_point,
)
from segtrain.config.check import report
from segtrain.config.facts import crop_size
from segtrain.config.resumed import resume_problems
from segtrain.cost import costs
from segtrain.data.datamodule import SegmentationData
from segtrain.deterministic import explain
from segtrain.errors import UserError
from segtrain.hardware import set_backends
from segtrain.models.encoders.pretrained import spread
from segtrain.models.normalize import Normalize
from segtrain.models.weights import fit_weights, read_weights
from segtrain.module import SegmentationModule
from segtrain.ranks.ending import resuming
from segtrain.results.run_log import FITTED
from segtrain.run_folder import prepare, read_choices, write_metrics
from segtrain.run_id import global_rank, requeued
from segtrain.summary import describe_model, score_table

log = logging.getLogger("segtrain")

Config = dict[str, Any]


class Resumed(NamedTuple):
    """Where a run starts: its checkpoint, (epoch, batch) and optimizer step; the beginning without one."""

    checkpoint: Path | None = None
    start: tuple[int, int] = (0, 0)
    step: int | None = None


def prepare_run(run: Path, cfg: Config, plain: Config) -> Resumed:
    """Make the run folder, seed everything, and find where a resumed run, or a job that SLURM runs again, goes on.

    Raises:
        UserError: if the folder cannot be used, has no checkpoint that reads, or one of another run than `plain` is.
    """
    resumed = Resumed()
    kept = [run / "checkpoints" / name for name in (LAST, *older_names(2), BEST)]
    if cfg["resume"] is None and requeued() and any(path.is_file() for path in kept):
        cfg["resume"] = str(run)
    if cfg["resume"] is not None:
        path = resume_point(cfg["resume"])
        checkpoint = read_checkpoint(path)
        count_in_parts(checkpoint, cfg["trainer"].get("accumulate_grad_batches") or 1)
        start = position(checkpoint)
        report(resume_problems(plain, checkpoint["config"], inside_an_epoch=start[1] > 0, run=cfg["resume"]))
        resumed = Resumed(path, start, checkpoint["global_step"])
    if global_rank() == 0:
        again = requeued() and (run / "config.yaml").is_file()
        resumed = resumed._replace(step=0) if again and resumed.step is None else resumed
        prepare(run, plain, resumed=resumed.checkpoint is not None or again)
    set_backends(cfg["deterministic"])
    pl.seed_everything(cfg["seed"], workers=True, verbose=False)
    return resumed


def start_from(module: SegmentationModule, path: str, *, in_channels: int, own_statistics: bool = False) -> None:
    """Fill what fits of the network from a file, and say what did not.

    A run's checkpoint and torchvision's files bring the mean and deviation of the images too.

    Args:
        module: whose network is filled.
        path: a .ckpt, .pth, .pt, .bin or .safetensors file.
        in_channels: channels of the image.
        own_statistics: the data set says its own mean and deviation, which stay.

    Raises:
        UserError: if the file cannot be read or nothing of it fits.
    """
    try:
        file = read_weights(Path(path).expanduser())
        translate = getattr(module.model, "translate", None)  # of other libraries' files
        tensors, statistics = translate(file) if callable(translate) else file
        fit = fit_weights(module.model, tensors)
    except ValueError as error:
        raise UserError(f"init_from: {str(error).removeprefix('weights: ').removeprefix('checkpoint: ')}") from error
    if statistics is not None and not own_statistics:
        module.normalize = Normalize(*(spread(values, in_channels) for values in statistics))
    log.info(f"starting from {path}: {fit.sentence()}")
    if len(fit.loaded) < fit.total / 2:
        log.warning(f"less than half of the network comes from {path}; is it the same network?")


def describe(run: Path, cfg: Config, module: SegmentationModule, trainer: pl.Trainer, total_steps: int) -> None:
    """Say what is about to be trained, on what, and where it goes."""
    dataset = cfg["dataset"]
    if not trainer.is_global_zero:
        return
    size = crop_size(cfg)[1] or 256
    log.info(describe_model(module.model, in_channels=dataset["in_channels"], size=size))
    mean, std = ([round(v, 4) for v in values.flatten().tolist()] for values in module.normalize.buffers())
    log.info(f"images of 0 to 1 are normalised by mean {mean}, deviation {std}")
    device = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
    images, accumulation = cfg["loader"]["batch_size"], trainer.accumulate_grad_batches
    parts = f" in {accumulation} parts" if accumulation > 1 else ""
    log.info(f"{device}, {trainer.precision}, {total_steps} steps of {images} images{parts}, run folder {run}")
    tensorboard.start_hparams(trainer.logger, cfg, choices=read_choices(run))


def fit(
    trainer: pl.Trainer,
    module: SegmentationModule,
    data: SegmentationData,
    checkpoint: Path | None,
    run: Path,
) -> None:
    """Train; an interrupted run says how to go on."""
    if checkpoint is not None:
        if checkpoint.name != LAST:
            log.warning(f"{checkpoint.with_name(LAST)} is missing or damaged and passed over")
        log.info(f"resuming from {checkpoint}, epoch {data.start[0] + 1}, batch {data.start[1] + 1}")
    started = time.perf_counter()
    try:
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=None if checkpoint is None else str(checkpoint),
            weights_only=True,
        )
    except RuntimeError as error:
        if refused := explain(error):
            raise UserError(refused) from error
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(_out_of_memory(trainer, data)) from error
    except (KeyboardInterrupt, SystemExit) as error:
        stopped = isinstance(error, Stopped)
        reason = f"stopped by {error.name}" if isinstance(error, Stopped) else "interrupted"
        requeued = isinstance(error, Stopped) and error.requeued
        told = trainer.is_global_zero and (stopped or trainer.world_size == 1)  # else `segtrain.ranks` tells it, once
        if told and (run / "checkpoints" / LAST).is_file():
            way = "the job that SLURM runs again goes on" if requeued else f"go on with: {resuming(run)}"
            log.info(f"{reason} after step {trainer.global_step}; {way}")
        if isinstance(error, Stopped):
            error.wait()
        raise
    log.debug(f"{FITTED}{time.perf_counter() - started:.1f} s")


def _out_of_memory(trainer: pl.Trainer, data: SegmentationData) -> str:
    """Return what was too much, and what to change."""
    device = trainer.strategy.root_device
    images = data.batch_size // trainer.world_size // data.accumulation
    unit = 1 if data.mix is None else 2  # which pairs the images of a batch
    divisor = next((number for number in range(2, images + 1) if images % (number * unit) == 0), 1)
    more = f"trainer.accumulate_grad_batches={data.accumulation * divisor}"
    parts = f"{more} (the same step in parts, but for batch norm's statistics), " if divisor > 1 else ""
    peak = ""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        peak = f" ({torch.cuda.max_memory_allocated(device) / 2**30:.1f} of {memory / 2**30:.1f} GiB at the peak)"
    return (
        f"out of memory on {device.type}{peak}, with {images} images a device at a time; give {parts}a smaller "
        "loader.batch_size, augmentation.crop_size or encoder, or trainer.precision=bf16-mixed"
    )


def finish(
    trainer: pl.Trainer,
    module: SegmentationModule,
    data: SegmentationData,
    run: Path,
    cfg: Config,
    *,
    test: bool,
) -> None:
    """Score the test split with the best checkpoint (the last, if nothing was validated), write and print.

    The first rank measures what the network costs (`segtrain.cost`).
    """
    best = next(callback for callback in trainer.callbacks if isinstance(callback, KeepBest))  # type: ignore[attr-defined]
    path = Path(best.best_model_path) if best.best_model_path else run / "checkpoints" / LAST
    values: Config = {}
    if path.is_file():
        checkpoint = read_checkpoint(path)
        values = {"epoch": checkpoint["epoch"], "step": checkpoint["global_step"]}
        values |= _row_of(run, checkpoint["epoch"])
        load_weights(module, checkpoint, path)
    if test and trainer.is_global_zero:
        write_metrics(run / "metrics.json", values)  # kept, whatever the test meets
    table = ""
    if test and (scored := trainer.test(module, datamodule=data, verbose=False)):
        values |= {key: float(value) for key, value in scored[0].items()}
        table = score_table(values, "test", cfg["dataset"]["class_names"], module.scored)
    if not trainer.is_global_zero:
        return
    values |= costs(
        module,
        trainer.strategy.root_device,
        size=crop_size(cfg)[1] or 256,
        precision=trainer.precision_plugin.forward_context,
    )
    tensorboard.finish_hparams(trainer.logger, values, step=trainer.global_step)
    write_metrics(run / "metrics.json", values)  # the last: a run that has it has all else
    if table:
        log.info(f"{table}\n")
    elif "val/miou" in values:
        log.info(f"best val mIoU {values['val/miou']:.4f} in epoch {values['epoch'] + 1}")
    log.info(f"run folder   {run}")
    if (picture := run / "predictions.png").is_file():
        log.info(f"predictions  {picture}")
    if (run / "tensorboard").is_dir():
        log.info(f"curves       tensorboard --logdir {run / 'tensorboard'}")


def _row_of(run: Path, epoch: int) -> dict[str, float]:
    """Return the epoch's metrics from metrics.csv: validation was scored then, and is not repeated."""
    rows = [row for row in read_rows(run / "metrics.csv") if int(row["epoch"]) == epoch]
    return {k: float(v) for k, v in rows[-1].items() if v and k not in ("epoch", "step")} if rows else {}
