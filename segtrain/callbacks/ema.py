"""An exponential moving average of the weights, which is what is scored and saved."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from segtrain import sharded_state


class WeightEMA(pl.Callback):
    """Keep average <- decay * average + (1 - decay) * weights after every optimizer step, buffers too.

    The decay warms up as (1 + step) / (10 + step) (as TensorFlow's ExponentialMovingAverage), so that the average
    forgets the random start. Validation sees the average; checkpoints hold it as `state_dict`, and the weights that
    training goes on with as `training_state_dict`. Where weights are shared out among devices, so is the average.

    Args:
        decay: in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.averaged_step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own = _slices(pl_module)
        if not self.average:
            self.average = {name: tensor.detach().clone() for name, tensor in own.items()}
        self._place(own)

    def _place(self, own: dict[str, Tensor]) -> None:
        self.average = {
            name: tensor.to(own[name].device).contiguous(memory_format=_format_of(own[name]))
            for name, tensor in self.average.items()
        }

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
        own = _slices(pl_module)
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [own[n].detach() for n in floats], 1 - decay)
        for name, tensor in own.items():
            if not tensor.is_floating_point():
                self.average[name].copy_(tensor)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        for name, tensor in _tensors(pl_module).items():
            mine = sharded_state.local(tensor)
            if mine is tensor:
                tensor.data, self.average[name] = self.average[name], tensor.data
            else:  # the gathering of weights reads from this place in memory
                kept = mine.clone()
                mine.copy_(self.average[name])
                self.average[name] = kept

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["training_state_dict"] = checkpoint["state_dict"]
        own = _tensors(pl_module)
        average = sharded_state.put_together(self.average, own)
        names = {id(tensor): name for name, tensor in own.items()}
        checkpoint["state_dict"] = {
            name: average[names[id(tensor)]] if id(tensor) in names else checkpoint["state_dict"][name]
            for name, tensor in pl_module.state_dict(keep_vars=True).items()
            if name in checkpoint["state_dict"]  # of sharded weights the first rank alone has them
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING or "training_state_dict" not in checkpoint:
            return
        saved = checkpoint["state_dict"]
        self.average = {
            name: sharded_state.local(sharded_state.slice_like(saved[name], own)).clone()
            for name, own in _tensors(pl_module).items()
        }
        self._place(_slices(pl_module))
        sharded_state.load_weights(pl_module, checkpoint["training_state_dict"])


def _tensors(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return what the state dict saves of the model, a tensor with two names once."""
    model = pl_module.model
    assert isinstance(model, torch.nn.Module)
    saved = model.state_dict(prefix="model.", keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in saved.items():
        first.setdefault(id(tensor), name)
    return {name: saved[name] for name in first.values() if isinstance(saved[name], Tensor)}


def _slices(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return what this device has of these tensors: all of them, unless they are shared out."""
    return {name: sharded_state.local(tensor) for name, tensor in _tensors(pl_module).items()}


def _format_of(tensor: Tensor) -> torch.memory_format:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
