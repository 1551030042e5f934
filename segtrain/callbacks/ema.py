"""An exponential moving average of the weights, which is what is scored and saved."""

from typing import Any

import pytorch_lightning as pl
import torch

from segtrain.callbacks.average import WeightAverage, slices_of


class WeightEMA(WeightAverage):
    """Keep average <- decay * average + (1 - decay) * weights after every optimizer step, buffers too.

    The decay warms up as (1 + step) / (10 + step) (as TensorFlow's ExponentialMovingAverage), so that the average
    forgets the random start. `WeightAverage` says where the average is seen.

    Args:
        decay: in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.averaged_step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.average:
            self.average = {name: tensor.detach().clone() for name, tensor in slices_of(pl_module).items()}
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.averaged_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self.averaged_step:
            return  # a batch of an accumulated step
        self.averaged_step = step
        decay = min(self.decay, (1 + step) / (10 + step))
        own = slices_of(pl_module)
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [own[n].detach() for n in floats], 1 - decay)
        for name, tensor in own.items():
            if not tensor.is_floating_point():
                self.average[name].copy_(tensor)
