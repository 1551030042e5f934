"""`last.ckpt`, whatever the score, with the one before kept until it is replaced."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from segtrain.checkpoint import LAST, PREVIOUS


class KeepLast(Checkpoint):
    """Write a checkpoint at the end of every epoch, and every so many steps.

    Args:
        folder: where `last.ckpt` and `previous.ckpt` go.
        every_n_steps: also inside an epoch; None only at its end.
    """

    def __init__(self, folder: Path, *, every_n_steps: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.saved_step = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self.saved_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self.saved_step = trainer.global_step
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists():
            os.replace(last, self.folder / PREVIOUS)
        trainer.save_checkpoint(last)
