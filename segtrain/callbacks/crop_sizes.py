"""Which size the crops have, where it changes over the run."""

import logging

import pytorch_lightning as pl

from segtrain.data.progressive import Progressive, side_at

log = logging.getLogger("segtrain")


class CropSizes(pl.Callback):
    """Say the size of the crops where training starts, and where it changes.

    Args:
        progressive: what resizes them.
        side: of a whole crop in pixels; None if the augmentation has none.
    """

    def __init__(self, progressive: Progressive, side: int | None) -> None:
        self.progressive = progressive
        self.side = side
        self.said: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say(trainer)

    def _say(self, trainer: pl.Trainer) -> None:
        share = self.progressive.share(trainer.current_epoch)
        if share == self.said:
            return
        self.said = share
        size = f"{share:g} of their size" if self.side is None else f"{side_at(share, self.side)} pixels a side"
        if trainer.is_global_zero:
            log.info(f"epoch {trainer.current_epoch + 1}: crops are of {size}")
