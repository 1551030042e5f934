"""`best.ckpt` by the score, and `last.ckpt` whatever the score, with the one before it."""

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from segtrain.callbacks.agreement import Agreement
from segtrain.checkpoint import BEST, LAST, older_names, read_checkpoint, reads, verify


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
            save_on_train_epoch_end=False,  # see `on_validation_end`
        )
        self.validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, or wait for the end of the epoch if this is it: a run that goes on from here has the epoch's row."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and is_last_batch(trainer):
            self.validated = True
        else:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.validated:
            super().on_validation_end(trainer, pl_module)
        self.validated = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score: the better one of the state and of the file in this run's folder.

        A run that goes on from an older checkpoint than `best.ckpt` does not replace it by a worse one; a file that is
        damaged counts for nothing.
        """
        best = Path(self.dirpath or "") / BEST
        if not reads(best):
            return
        states = [state_dict, *read_checkpoint(best)["callbacks"].values()]
        scores = [state.get("best_model_score") for state in states if state.get("monitor") == self.monitor]
        found = [score for score in scores if score is not None and torch.isfinite(score)]
        if not found:
            return
        score = (min if self.mode == "min" else max)(found)
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = str(best)
        self.best_k_models = {str(best): score}


class KeepLast(Checkpoint):
    """Write a checkpoint at the end of an epoch that was validated or if the last is a minute old, and at the end.

    Epochs of a second each would otherwise spend a tenth of their time on writing. A new file replaces the last one
    only once it has been read back; that one becomes `previous.ckpt`, then `previous-2.ckpt`, ...

    Args:
        folder: where they go.
        every_n_steps: also inside an epoch; None only at its end.
        every_minutes: likewise, by the clock of the first rank.
        keep: how many, the last one among them; 2 or more.
        seconds: how old the last may get before the end of an epoch writes another.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 2,
        seconds: float = 60,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.every_seconds = None if every_minutes is None else 60 * every_minutes
        self.keep = keep
        self.seconds = seconds
        self.step = 0
        self.saved_step = -1
        self.saved_at = time.monotonic()
        self.validated = False
        self.awaits_score = False
        self.last_is_good: bool | None = None
        self.agreement = Agreement()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self.step:
            return  # a batch of an accumulated step: a run that goes on from here would lack its gradient
        self.step = step
        if is_last_batch(trainer):
            return  # the end of the epoch writes, when it is validated
        self.awaits_score = validates_next(trainer)
        if not self.awaits_score:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = not trainer.sanity_checking
        if self.awaits_score:
            self.awaits_score = False
            self._save_if_due(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if due or (self.every_seconds is not None and self._is_older(trainer, self.every_seconds)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        seconds = min(self.seconds, self.every_seconds or self.seconds)
        if self.validated or due or self._is_older(trainer, seconds):
            self.save(trainer)
        self.validated = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer)

    def _is_older(self, trainer: pl.Trainer, seconds: float) -> bool:
        """Say whether the last checkpoint is; the first rank's clock counts, so that all ranks write or none."""
        old = trainer.is_global_zero and time.monotonic() - self.saved_at > seconds
        return bool(self.agreement.largest(int(old)))

    def save(self, trainer: pl.Trainer) -> None:
        """Write the running step's checkpoint, if it is not written yet; all ranks call this."""
        if self.saved_step == trainer.global_step:
            return
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()
        for logger in trainer.loggers:
            logger.save()  # what it holds back would be lost, as a resumed run does not repeat these steps
        last, new = self.folder / LAST, self.folder / f"new-{LAST}"
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            verify(new)
            if self.last_is_good is None:
                self.last_is_good = reads(last)  # one that a resumed run passed over must not replace the one before
            if self.last_is_good:
                older = [self.folder / name for name in older_names(self.keep)]
                for path, place in reversed([*pairwise(older)]):
                    if path.is_file():
                        os.replace(path, place)
                os.replace(last, older[0])
            os.replace(new, last)
            self.last_is_good = True


def is_last_batch(trainer: pl.Trainer) -> bool:
    """Say whether the running batch is the last of its epoch."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def validates_next(trainer: pl.Trainer) -> bool:
    """Say whether a validation follows the running batch; a run that goes on from right before it would skip it."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
