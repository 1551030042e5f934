"""`best.ckpt` by the score, and `last.ckpt` whatever the score, with the one before it."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from segtrain.checkpoint import BEST, LAST, PREVIOUS, reads


class KeepBest(ModelCheckpoint):
    """`best.ckpt`: the checkpoint with the best of a logged score; a resumed run goes on from its best score.

    Args:
        folder: where it goes.
        monitor: the score's log key.
        mode: "max" or "min".
    """

    def __init__(self, folder: Path, *, monitor: str, mode: str) -> None:
        super().__init__(
            folder,
            filename=Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score; its file is the one in this run's folder, wherever the folder was moved to."""
        score = state_dict.get("best_model_score")
        best = str(Path(self.dirpath or "") / BEST)
        if score is None or not Path(best).is_file():
            return
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = best
        self.best_k_models = {best: score}


class KeepLast(Checkpoint):
    """Write a checkpoint at the end of an epoch that was validated or if the last is a minute old, and at the end.

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
        self.last_is_good: bool | None = None

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
        last, new = self.folder / LAST, self.folder / f"new-{LAST}"
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            if self.last_is_good is None:
                self.last_is_good = reads(last)  # one that a resumed run passed over must not replace the one before
            if self.last_is_good:
                os.replace(last, self.folder / PREVIOUS)
            os.replace(new, last)
            self.last_is_good = True
