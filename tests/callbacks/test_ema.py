"""Is the average of weights the formula's, is it what is scored and saved, and does training go on without it?"""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinyNet, TinySamples, evaluation_loader, tiny_module, trainer, training_loader
from torch import Tensor, nn

from segtrain.callbacks.ema import WeightEMA
from segtrain.checkpoint import load_weights, read_checkpoint
from segtrain.module import SegmentationModule

DECAY = 0.9


class Recorder(pl.Callback):
    """Keep the weights that training has after every batch, and those that validation sees."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.trained.append(copy_of(pl_module))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.validated.append(copy_of(pl_module))


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if name.startswith("model.")}


def averaged(start: dict[str, Tensor], after_steps: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """Average by the formula in float64; whole numbers (the batches that a norm has seen) are the last ones."""
    average = {name: tensor.double() for name, tensor in start.items()}
    for step, weights in enumerate(after_steps, start=1):
        d = min(decay, (1 + step) / (10 + step))
        average = {name: d * average[name] + (1 - d) * weights[name].double() for name in average}
    last = after_steps[-1]
    return {n: a.to(last[n].dtype) if last[n].is_floating_point() else last[n] for n, a in average.items()}


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("decay", [0.0, 0.15, DECAY])
def test_the_average_follows_the_formula_for_weights_and_buffers(decay: float, tmp_path: Path) -> None:
    module, recorder, ema = tiny_module(), Recorder(), WeightEMA(decay)
    start = copy_of(module)
    trainer(tmp_path, ema, recorder, max_epochs=2).fit(module, training_loader(TinySamples()))
    assert len(recorder.trained) == 6
    assert_close(ema.average, averaged(start, recorder.trained, decay))


def test_validation_sees_the_average_and_training_goes_on_with_its_own_weights(tmp_path: Path) -> None:
    module, recorder, ema = tiny_module(), Recorder(), WeightEMA(DECAY)
    start = copy_of(module)
    loaders = training_loader(TinySamples()), evaluation_loader(TinySamples(2))
    trainer(tmp_path, ema, recorder, max_epochs=2).fit(module, *loaders)
    assert_close(recorder.validated[0], averaged(start, recorder.trained[:3], DECAY))
    assert_close(recorder.validated[1], averaged(start, recorder.trained, DECAY))

    other, plain = tiny_module(), Recorder()
    trainer(tmp_path, plain, max_epochs=2).fit(other, *loaders)
    for ours, without in zip(recorder.trained, plain.trained, strict=True):
        assert all(torch.equal(ours[name], tensor) for name, tensor in without.items())


def test_accumulated_batches_are_averaged_once_a_step(tmp_path: Path) -> None:
    module, recorder, ema = tiny_module(), Recorder(), WeightEMA(DECAY)
    start = copy_of(module)
    lightning = trainer(tmp_path, ema, recorder, max_epochs=1, accumulate_grad_batches=3)
    lightning.fit(module, training_loader(TinySamples(12)))
    steps = [recorder.trained[2], recorder.trained[5]]
    assert lightning.global_step == 2
    assert_close(ema.average, averaged(start, steps, DECAY))


def test_a_checkpoint_holds_the_average_as_its_weights_and_the_others_beside(tmp_path: Path) -> None:
    module, ema = tiny_module(), WeightEMA(DECAY)
    lightning = trainer(tmp_path, ema, max_epochs=1)
    lightning.fit(module, training_loader(TinySamples()))
    lightning.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert_close(checkpoint["state_dict"], ema.average)
    assert_close(checkpoint["training_state_dict"], copy_of(module))
    fresh = tiny_module()
    load_weights(fresh, checkpoint, "a.ckpt")
    assert_close(copy_of(fresh), ema.average)


def test_channels_last_weights_stay_so(tmp_path: Path) -> None:
    module, ema = tiny_module(), WeightEMA(DECAY)
    module.model.to(memory_format=torch.channels_last)
    loaders = training_loader(TinySamples()), evaluation_loader(TinySamples(2))
    trainer(tmp_path, ema, max_epochs=1).fit(module, *loaders)
    for weight in (module.model.conv.weight, ema.average["model.conv.weight"]):
        assert weight.is_contiguous(memory_format=torch.channels_last)


def seeded(make: type[TinyNet]) -> SegmentationModule:
    torch.manual_seed(0)
    return tiny_module(make())


class WithScratch(TinyNet):
    """A network with a buffer that is not part of its state dict, as grids of positions are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


class WithSharedWeight(TinyNet):
    """A network that has one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.classifier


@pytest.mark.parametrize("make", [TinyNet, WithScratch, WithSharedWeight])
def test_the_checkpoint_of_any_network_can_be_loaded_and_resumed(make: type[TinyNet], tmp_path: Path) -> None:
    ema = WeightEMA(DECAY)
    lightning = trainer(tmp_path, ema, max_epochs=1)
    lightning.fit(seeded(make), training_loader(TinySamples()))
    lightning.save_checkpoint(tmp_path / "a.ckpt")
    fresh = seeded(make)
    load_weights(fresh, read_checkpoint(tmp_path / "a.ckpt"), "a.ckpt")
    own = copy_of(fresh)
    assert_close(own, {name: tensor for name, tensor in ema.average.items() if name in own})

    straight, resumed = seeded(make), seeded(make)
    straight_ema, resumed_ema = WeightEMA(DECAY), WeightEMA(DECAY)
    trainer(tmp_path, straight_ema, max_epochs=2).fit(straight, training_loader(TinySamples()))
    loader = training_loader(TinySamples(), start=(1, 0))
    trainer(tmp_path, resumed_ema, max_epochs=2).fit(
        resumed, loader, ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True
    )
    for ours, expected in ((copy_of(resumed), copy_of(straight)), (resumed_ema.average, straight_ema.average)):
        assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())
