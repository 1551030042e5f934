"""Stochastic weight averaging: the equal average of the weights at the ends of the last epochs."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from segtrain.callbacks.average import WeightAverage, slices_of
from segtrain.callbacks.checkpoints import is_last_batch
from segtrain.models.norms import fresh_statistics

log = logging.getLogger("segtrain")

NUM_BATCHES = 100  # on each device, for the statistics


class WeightSWA(WeightAverage):
    """Average the weights at every epoch's end from `start_step` on (Izmailov et al., 2018, arXiv:1803.05407).

    The first weights are those at the end of the epoch that reaches that step; if training ends inside an epoch, its
    last weights count too. The batch norms of the average get statistics of its own before it is scored or saved: the
    mean of those of the epoch's first batches, `NUM_BATCHES` at most, as section 3.2 asks for and
    `torch.optim.swa_utils.update_bn` computes. `WeightAverage` says where the average is seen.

    Args:
        start_step: optimizer steps after which the average begins.
        total_steps: optimizer steps of the whole run.
        lr: constant learning rate from `start_step` on, of the groups for which it would be `base_lr` before; None
            leaves it to the schedule.
        base_lr: see `lr`; None is that of the first group.
    """

    def __init__(
        self, start_step: int, *, total_steps: int, lr: float | None = None, base_lr: float | None = None
    ) -> None:
        super().__init__()
        self.start_step = start_step
        self.total_steps = total_steps
        self.lr = lr
        self.base_lr = base_lr
        self.rates: list[float] = []  # of the optimizer's groups
        self.count = 0  # of the weights in the average
        self.epoch = 0  # of the last of them
        self.stale = False  # the statistics are not those of the average
        self.modes: dict[nn.Module, bool] = {}  # of the network's modules in training

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        if self.lr is not None:
            # as built: the checkpoint of a resumed run is read later, and the schedule has changed its rates
            peaks = [group.get("initial_lr", group["lr"]) for group in trainer.optimizers[0].param_groups]
            self.rates = [self.lr * peak / (self.base_lr or peaks[0]) for peak in peaks]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step < self.start_step and self.average:
            self.average, self.count, self.stale = {}, 0, False  # resumed with more epochs than the average was for
        self._set_rates(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._set_rates(trainer)  # after the schedule did
        step = trainer.global_step
        if step >= self.start_step and (is_last_batch(trainer) or step >= self.total_steps):
            self._add(pl_module)
            self.epoch = trainer.current_epoch
            if self.count == 1 and trainer.is_global_zero:
                log.info(f"the average of the weights begins with those of epoch {self.epoch + 1}, and is scored")

    def _set_rates(self, trainer: pl.Trainer) -> None:
        if self.rates and trainer.global_step >= self.start_step:
            for group, rate in zip(trainer.optimizers[0].param_groups, self.rates, strict=True):
                group["lr"] = rate

    @torch.no_grad()
    def _add(self, pl_module: pl.LightningModule) -> None:
        """Put the weights into the average; buffers are the last ones, until `_refresh`."""
        own = slices_of(pl_module)
        trained = {name for name, _ in pl_module.named_parameters()}
        if not self.count:
            self.average = {name: tensor.detach().clone() for name, tensor in own.items()}
        self.count += 1
        for name, tensor in own.items():
            if name in trained and tensor.is_floating_point():
                self.average[name].lerp_(tensor.detach(), 1 / self.count)
            else:
                self.average[name].copy_(tensor)
        self.stale = True
        self.modes = {module: module.training for module in pl_module.model.modules()}  # type: ignore[union-attr]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refresh(trainer, pl_module)
        super().on_validation_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._refresh(trainer, pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def _refresh(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the batch norms of the average its own statistics, if they are not; on all ranks."""
        if not self.stale:
            return
        self.stale = False
        self.swap(pl_module)
        with torch.inference_mode(False), torch.no_grad(), fresh_statistics(self.modes) as norms:
            if norms:
                self._see_batches(trainer, pl_module)
            for statistic in (getattr(norm, name) for norm in norms for name in ("running_mean", "running_var")):
                statistic.copy_(trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))
        self.swap(pl_module)

    def _see_batches(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        count = int(min(NUM_BATCHES, trainer.num_training_batches))
        batches = trainer.datamodule.first_batches(self.epoch, count)  # type: ignore[attr-defined]
        for number, batch in enumerate(batches):
            pl_module.seed_step(self.epoch, number)  # type: ignore[operator]
            batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
            # uncompiled: the statistics of a mean over batches would break the graph, for a few batches
            with trainer.precision_plugin.train_step_context(), torch.compiler.set_stance("force_eager"):
                pl_module(batch["image"])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.count and trainer.is_global_zero:
            log.warning(
                f"swa: training ended before step {self.start_step}, so there is no average; give a smaller swa_start"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return how many weights the average has, and the epoch of the last."""
        return {"count": self.count, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; the average itself is in the checkpoint's weights."""
        self.count, self.epoch = state_dict["count"], state_dict["epoch"]
