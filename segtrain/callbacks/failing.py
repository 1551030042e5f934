"""A rank that has failed ends, even if it hangs when it cleans up."""

import pytorch_lightning as pl

from segtrain import ranks


class Failing(pl.Callback):
    """Note a failure before Lightning cleans up, which can wait for a dead rank without end."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        ranks.failing(exception)
