"""`metrics.csv`: one row an epoch, whose values of training go to the loggers too."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from segtrain.callbacks.training_loss import log_metrics
from segtrain.metrics.scores import score_names
from segtrain.metrics_file import read_rows as read_rows


def columns(class_names: Sequence[str]) -> list[str]:
    """Return the names in a row."""
    scores = [f"val/{name}" for name in ("loss", *score_names(class_names))]
    return ["epoch", "step", "train/epoch_loss", "perf/images_per_second", "perf/data_wait_fraction", *scores]


class MetricsCsv(pl.Callback):
    """Append the epoch's metrics to a file; a resumed run first cuts what lies behind its checkpoint.

    Args:
        path: the file.
        class_names: the classes whose scores are columns.
    """

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self.path = path
        self.columns = columns(class_names)
        self.validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            rows = [row for row in read_rows(self.path) if int(row["step"]) <= trainer.global_step]
            self._write(rows)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        for name in self.columns[2:]:
            value = trainer.callback_metrics.get(name)
            if value is not None and (self.validated or not name.startswith("val/")):
                row[name] = repr(float(value))
        self.validated = False
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)
            file.flush()
            os.fsync(file.fileno())  # before a checkpoint that lies behind this row
        training = {name: float(row[name]) for name in self.columns[2:] if name in row and not name.startswith("val/")}
        if training:
            log_metrics(trainer, training)

    def _write(self, rows: list[dict[str, str]]) -> None:
        part = self.path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)
