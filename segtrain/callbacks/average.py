"""How does an average of the weights take their place in validation and in checkpoints?"""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from segtrain.sharding import slices


class WeightAverage(pl.Callback):
    """Keep an average beside the weights, and score and save it; subclasses say how it follows them.

    Validation sees the average; checkpoints hold it as `state_dict`, and the weights that training goes on with as
    `training_state_dict`. While there is none, the weights are scored and saved. Where weights are shared out among
    devices, so is the average.
    """

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}  # this device's, by the names of the state dict, buffers too

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._place(slices_of(pl_module))

    def _place(self, own: dict[str, Tensor]) -> None:
        self.average = {
            name: tensor.to(own[name].device).contiguous(memory_format=_format_of(own[name]))
            for name, tensor in self.average.items()
        }

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.swap(pl_module)

    def swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange the weights and their average, if there is one."""
        for name, tensor in tensors_of(pl_module).items() if self.average else ():
            mine = slices.local(tensor)
            if mine is tensor:
                tensor.data, self.average[name] = self.average[name], tensor.data
            else:  # the gathering of weights reads from this place in memory
                kept = mine.clone()
                mine.copy_(self.average[name])
                self.average[name] = kept

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.average:
            return
        checkpoint["training_state_dict"] = checkpoint["state_dict"]
        own = tensors_of(pl_module)
        average = slices.put_together(self.average, own)
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
            name: slices.local(slices.slice_like(saved[name], mine)).clone()
            for name, mine in tensors_of(pl_module).items()
        }
        self._place(slices_of(pl_module))
        slices.load_weights(pl_module, checkpoint["training_state_dict"])


def tensors_of(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return what the state dict saves of the model, a tensor with two names once."""
    model = pl_module.model
    assert isinstance(model, torch.nn.Module)
    saved = model.state_dict(prefix="model.", keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in saved.items():
        first.setdefault(id(tensor), name)
    return {name: saved[name] for name in first.values() if isinstance(saved[name], Tensor)}


def slices_of(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return what this device has of these tensors: all of them, unless they are shared out."""
    return {name: slices.local(tensor) for name, tensor in tensors_of(pl_module).items()}


def _format_of(tensor: Tensor) -> torch.memory_format:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
