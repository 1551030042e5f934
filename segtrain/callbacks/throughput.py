"""How fast training is, and how much of its time it waits for data; validation is left out."""

import time
from typing import Any

import pytorch_lightning as pl

from segtrain.data.loader import Loader


class Throughput(pl.Callback):
    """Log `perf/images_per_second` of all devices and `perf/data_wait_fraction` at the end of every epoch.

    The second is the share of the time in which the first device's process waited for its loader: near 0 the network
    is the bottleneck, near 1 the data.
    """

    def __init__(self) -> None:
        self.started = 0.0
        self.paused = 0.0
        self.images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # which is not called where a run is resumed in mid-epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started, self.paused, self.images = time.perf_counter(), 0.0, 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.paused -= time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.paused += time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch["index"]) * trainer.world_size

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.images:
            return  # resumed at an epoch's end
        seconds = time.perf_counter() - self.started - self.paused
        pl_module.log("perf/images_per_second", self.images / seconds, logger=False, rank_zero_only=True)
        if isinstance(trainer.train_dataloader, Loader):
            waited = min(1.0, trainer.train_dataloader.waited / seconds)
            pl_module.log("perf/data_wait_fraction", waited, logger=False, rank_zero_only=True)
