"""`last.ckpt`, whatever the score, with the one before kept until it is replaced."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from segtrain.checkpoint import LAST, PREVIOUS


class KeepLast(Checkpoint):
    """Write a checkpoint after every validation, at the end of an epoch if the last is a minute old, and at the end.

    Epochs of a second each would otherwise spend a tenth of their time on writing.

    Args:
        folder: where `last.ckpt` and `previous.ckpt` go.
        every_n_steps: also inside an epoch; None only at its end.
        seconds: how old the last may get before the end of an epoch writes another.
    """

    def __init__(self, folder: Path, *, every_n_steps: int | None = None, seconds: float = 60) -> None:
        super().__init__()
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.seconds = seconds
        self.saved_step = -1
        self.saved_at = time.monotonic()
        self.validated = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self.saved_step:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.validated or time.monotonic() - self.saved_at > self.seconds:
            self._save(trainer)
        self.validated = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.saved_step != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists():
            os.replace(last, self.folder / PREVIOUS)
        trainer.save_checkpoint(last)
