"""The training loss: as a curve every few steps, and as the mean of an epoch, wherever in it a run was resumed."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class TrainingLoss(pl.Callback):
    """Log `train/loss` every `Trainer.log_every_n_steps` steps, and `train/epoch_loss`, the mean over images.

    The curve is written before a checkpoint of the same step is, which Lightning does the other way round: a run
    killed in between would lack a point. A point is the mean over ranks, which is the loss of the step. The sums of the
    running epoch, one pair a rank, are kept in the checkpoint.
    """

    def __init__(self) -> None:
        self.epoch = -1
        self.sums = torch.zeros(2)  # the loss times images, and images
        self.loss = torch.zeros(())  # of the running optimizer step
        self.step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step
        self.sums, self.loss = self.sums.to(pl_module.device), self.loss.to(pl_module.device)

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        # Lightning numbers its curves by it; some of the hooks that write checkpoints see one too few
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.epoch != trainer.current_epoch:
            self.epoch = trainer.current_epoch
            self.sums = torch.zeros_like(self.sums)
        size, parts = len(batch["index"]), trainer.accumulate_grad_batches
        part = outputs["loss"]  # Lightning divided it by the number of parts
        self.sums += torch.stack([parts * part * size, torch.full_like(part, size)])
        self.loss = self.loss + part
        if trainer.global_step == self.step:
            return  # a batch of an accumulated step
        self.step = trainer.global_step
        loss, self.loss = self.loss, torch.zeros_like(self.loss)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = self.step % every == 0
        if due:
            loss = self._of_all_ranks(pl_module, loss).mean()
        if due or trainer.world_size == 1:  # that of one rank, divided by the labels of all, is the loss of nothing
            pl_module.log("train/loss", loss, logger=False, batch_size=size)  # for other callbacks
        if due and trainer.is_global_zero:
            log_metrics(trainer, {"train/loss": loss.item()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total, images = self._of_all_ranks(pl_module, self.sums).sum(dim=0)
        pl_module.log("train/epoch_loss", total / images, logger=False)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["epoch_loss"] = {"epoch": self.epoch, "sums": self._of_all_ranks(pl_module, self.sums).cpu()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if (saved := checkpoint.get("epoch_loss")) is None:
            return
        sums = saved["sums"]
        if len(sums) != trainer.world_size:  # then by another number of processes
            sums = torch.cat([sums.sum(dim=0, keepdim=True), torch.zeros(trainer.world_size - 1, 2)])
        self.epoch, self.sums = saved["epoch"], sums[trainer.global_rank].clone()

    def _of_all_ranks(self, pl_module: pl.LightningModule, own: Tensor) -> Tensor:
        """Return each rank's tensor (ranks, ...)."""
        gathered = pl_module.all_gather(own)
        assert isinstance(gathered, Tensor)
        return gathered.reshape(-1, *own.shape)


def log_metrics(trainer: pl.Trainer, values: dict[str, float]) -> None:
    """Give the loggers values of the step that was just done; as Lightning does, with the epoch."""
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step - 1)
