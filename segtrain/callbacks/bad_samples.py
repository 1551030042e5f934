"""Which training samples could not be read and were replaced by others."""

import logging
from typing import Any

import pytorch_lightning as pl

from segtrain.callbacks.agreement import Agreement

log = logging.getLogger("segtrain")

MOST_NAMED = 20


class BadSamples(pl.Callback):
    """Name each sample that was left out once, those of the other ranks at the end, and count them."""

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.count = 0
        self.agreement = Agreement()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for sentence in batch.get("bad", ()):
            self.count += 1
            if sentence not in self.named and len(self.named) < MOST_NAMED:
                log.warning(f"left out: {sentence}")
            self.named.add(sentence)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ranks = self.agreement.of_each((self.count, sorted(self.named)))
        count = sum(found for found, _ in ranks)
        if not count or not trainer.is_global_zero:
            return
        named = {sentence for _, sentences in ranks for sentence in sentences}
        for sentence in sorted(named - self.named)[: max(0, MOST_NAMED - len(self.named))]:
            log.warning(f"left out: {sentence}")
        log.warning(f"{len(named)} training samples cannot be read; others took their place {count} times")
