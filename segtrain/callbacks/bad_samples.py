"""Which training samples could not be read and were replaced by others."""

import logging
from typing import Any

import pytorch_lightning as pl

log = logging.getLogger("segtrain")

MOST_NAMED = 20


class BadSamples(pl.Callback):
    """Name each sample that was left out once, and count them."""

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.count = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for sentence in batch.get("bad", ()):
            self.count += 1
            if sentence not in self.named and len(self.named) < MOST_NAMED:
                log.warning(f"left out: {sentence}")
            self.named.add(sentence)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.count:
            log.warning(
                f"{len(self.named)} training samples cannot be read; others took their place {self.count} times"
            )
