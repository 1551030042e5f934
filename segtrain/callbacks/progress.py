"""A progress bar on a terminal, a line an epoch elsewhere; the loss is read from the device every N steps."""

import logging
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

log = logging.getLogger("segtrain")


class Progress(pl.Callback):
    """Show how far training is, its loss and the last mIoU.

    Args:
        every_n_steps: how often the loss is read, which waits for the device.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self.bar: Bar | None = None
        self.task = TaskID(0)
        self.loss = ""
        self.score = ""

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score = state_dict["score"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        console = Console(stderr=True)
        if not trainer.is_global_zero or not console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=console, transient=True)
        self.bar.start()
        epochs = (trainer.max_epochs or 0) * trainer.num_training_batches
        ends = [end for end in (epochs, trainer.max_steps * trainer.accumulate_grad_batches) if end > 0]
        self.task = self.bar.add_task("training", total=int(min(ends)) if ends else None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0  # else a batch of a step whose loss is not known
        if whole and (not self.loss or trainer.global_step % self.every_n_steps == 0):
            loss = trainer.callback_metrics.get("train/loss")
            self.loss = f"loss {loss.item():.3f}" if loss is not None else ""
        done = trainer.current_epoch * trainer.num_training_batches + batch_idx + 1
        self.bar.update(self.task, completed=done, description=f"{_epoch(trainer)}  {self.loss}  {self.score}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (miou := trainer.callback_metrics.get("val/miou")) is not None:
            self.score = f"mIoU {miou.item():.3f}"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("train/epoch_loss")
        if loss is not None and trainer.is_global_zero:
            text = f"{_epoch(trainer)}  loss {loss.item():.3f}  {self.score}"
            log.log(logging.DEBUG if self.bar is not None else logging.INFO, text.rstrip())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _epoch(trainer: pl.Trainer) -> str:
    of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""  # else a number of steps ends the run
    return f"epoch {trainer.current_epoch + 1}{of}"
