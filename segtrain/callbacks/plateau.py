"""When does a schedule that waits for a better score get it?"""

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim.lr_scheduler import ReduceLROnPlateau


class StepPlateau(pl.Callback):
    """Give a plateau schedule the score of every validation, before any checkpoint is written.

    Lightning does it after the checkpoint of the epoch's end, so a run resumed from there would miss a validation.

    Args:
        monitor: the score's log key.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(trainer.callback_metrics[self.monitor])
