"""The steps of the eval command."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from segtrain.callbacks.pictures import Pictures
from segtrain.checkpoint import load_weights, read_checkpoint
from segtrain.errors import UserError
from segtrain.module import SegmentationModule
from segtrain.run_folder import write_metrics
from segtrain.summary import score_table

log = logging.getLogger("segtrain")


def output_folder(checkpoint: Path, split: str) -> Path:
    """Return RUN/eval/SPLIT for RUN/checkpoints/NAME.ckpt, and make it; beside a checkpoint that is elsewhere.

    Raises:
        UserError: if it cannot be made.
    """
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    folder = run / "eval" / split
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"checkpoint: cannot write the scores to {folder} ({error.strerror})") from error
    return folder


def restore(module: SegmentationModule, path: Path) -> None:
    """Fill the module with a checkpoint's weights (the average, if the run kept one)."""
    load_weights(module, read_checkpoint(path), path)


def pictures(cfg: dict[str, Any]) -> list[pl.Callback]:
    """Return the callback that draws predictions."""
    dataset = cfg["dataset"]
    facts = {key: dataset.get(key) for key in ("class_names", "palette", "ignore_index")}
    return [Pictures(num_images=6, **facts)]


def write(
    trainer: pl.Trainer, module: SegmentationModule, folder: Path, *, split: str, class_names: Sequence[str]
) -> None:
    """Write metrics.json and confusion_matrix.csv, and print the table."""
    if not trainer.is_global_zero:
        return
    values = {
        f"{split}/{key.removeprefix('test/')}": float(value)
        for key, value in trainer.callback_metrics.items()
        if key.startswith("test/")
    }
    write_metrics(folder / "metrics.json", values)
    write_matrix(folder / "confusion_matrix.csv", module.scored, class_names)
    log.info(f"{score_table(values, split, class_names, module.scored)}\n")
    log.info(f"scores       {folder / 'metrics.json'}")
    log.info(f"predictions  {folder / 'predictions.png'}")


def write_matrix(path: Path, matrix: Tensor, class_names: Sequence[str]) -> None:
    """Write a confusion matrix with the truth in rows and names on both sides."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["truth \\ prediction", *class_names])
        for name, row in zip(class_names, matrix.tolist(), strict=True):
            writer.writerow([name, *row])
