"""When do the frozen stages of the encoder begin to be trained?"""

import logging

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from segtrain.errors import UserError
from segtrain.models.encoders.encoder import Encoder

log = logging.getLogger("segtrain")


class Unfreeze(pl.Callback):
    """Train the frozen stages too, their batch norms included, from an epoch on.

    The optimizer has their parameters from the beginning, and passes over them as long as they have no gradient, so
    neither the schedule nor its state changes.

    Args:
        epoch: how many epochs are trained with frozen stages before it.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            name = type(trainer.strategy).__name__
            raise UserError(f"unfreeze_epoch: parameters of {name} stay frozen; give null, or trainer.strategy=ddp")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._unfreeze_if_due(trainer, pl_module)  # a run resumed inside an epoch does not start it again

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._unfreeze_if_due(trainer, pl_module)

    def _unfreeze_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        encoder = getattr(pl_module.model, "encoder", None)
        if trainer.current_epoch < self.epoch or not isinstance(encoder, Encoder) or not encoder.frozen:
            return
        count = encoder.frozen
        encoder.freeze(0)
        if isinstance(trainer.strategy, DDPStrategy):
            # a wrapper reduces the gradients of what had one when it was made; the old one no longer sees a forward
            # pass, and without one it reduces nothing
            trainer.strategy.model = pl_module
            trainer.strategy.configure_ddp()
        if trainer.is_global_zero:
            log.info(f"epoch {trainer.current_epoch + 1}: the first {count} stages of the encoder are trained too")
