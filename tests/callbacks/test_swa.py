"""Is the average the equal one of the last epochs' weights, with statistics of its own, and is it what is scored?"""

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinyData, TinyNet, tiny_module, trainer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from segtrain.callbacks import swa
from segtrain.callbacks.swa import WeightSWA
from segtrain.checkpoint import load_weights, read_checkpoint
from segtrain.module import SegmentationModule

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class DropoutFirst(TinyNet):
    """A network whose norm sees what dropout draws."""

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.norm(self.dropout(self.conv(image))).relu())


class Recorder(pl.Callback):
    """Keep the weights at the end of every epoch, those that validation sees, and the random state after it."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.modes: list[bool] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.trained.append(copy_of(pl_module))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.validated.append(copy_of(pl_module))
        self.modes.append(any(module.training for module in pl_module.model.modules()))


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if name.startswith("model.")}


def with_own_statistics(module: SegmentationModule, weights: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
    """Return the weights with the statistics that torch's own function gives them, dropout drawn as in training."""
    other = copy.deepcopy(module)
    other.load_state_dict(weights, strict=False)

    def images() -> Iterator[Tensor]:
        for number, batch in enumerate(TinyData().first_batches(epoch, 3)):
            module.seed_step(epoch, number)
            yield module.normalize(batch["image"])

    update_bn(images(), other.model)
    return copy_of(other)


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def fit(folder: Path, *callbacks: pl.Callback, module: SegmentationModule, epochs: int = 4, **options: Any) -> Any:
    lightning = trainer(folder, *callbacks, max_epochs=epochs, **options)
    lightning.fit(module, datamodule=TinyData())
    return lightning


def test_the_average_is_the_equal_one_of_the_epochs_from_its_start_on(tmp_path: Path) -> None:
    module, recorder, average = tiny_module(), Recorder(), WeightSWA(6, total_steps=12)
    fit(tmp_path, recorder, average, module=module)
    assert average.count == 3  # those at steps 6, 9 and 12
    doubles = [weights["model.conv.weight"].double() for weights in recorder.trained[1:]]
    expected = (sum(doubles[1:], doubles[0]) / 3).float()
    torch.testing.assert_close(average.average["model.conv.weight"], expected)
    plain, without = tiny_module(), Recorder()
    fit(tmp_path, without, module=plain)
    for ours, theirs in zip(recorder.trained, without.trained, strict=True):
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())  # training knows nothing of it


def test_it_is_scored_from_its_start_on_with_the_statistics_that_torch_computes(tmp_path: Path) -> None:
    module, recorder, average = tiny_module(DropoutFirst()), Recorder(), WeightSWA(6, total_steps=12)
    fit(tmp_path, recorder, average, module=module)
    first = recorder.validated[0]
    assert all(torch.equal(first[name], tensor) for name, tensor in recorder.trained[0].items())
    for epoch in (1, 2, 3):
        past = recorder.trained[1 : epoch + 1]
        mean = {n: (sum(w[n].double() for w in past) / len(past)).to(past[0][n].dtype) for n in past[0]}
        assert_close(recorder.validated[epoch], with_own_statistics(module, mean, epoch))
        plain = recorder.trained[epoch]["model.norm.running_var"]
        assert not torch.allclose(recorder.validated[epoch]["model.norm.running_var"], plain, rtol=1e-3)
    assert not any(recorder.modes)


def test_no_more_batches_are_seen_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swa, "NUM_BATCHES", 2)
    average = WeightSWA(0, total_steps=3)
    fit(tmp_path, average, module=tiny_module(), epochs=1)
    assert average.average["model.norm.num_batches_tracked"] == 2


def test_a_checkpoint_holds_the_average_and_one_before_it_the_weights(tmp_path: Path) -> None:
    module, average = tiny_module(), WeightSWA(6, total_steps=12)
    lightning = fit(tmp_path, average, module=module, epochs=1)
    lightning.save_checkpoint(tmp_path / "a.ckpt")
    assert "training_state_dict" not in read_checkpoint(tmp_path / "a.ckpt")

    module, average = tiny_module(), WeightSWA(6, total_steps=12)
    lightning = fit(tmp_path, average, module=module, check_val_every_n_epoch=9)
    lightning.save_checkpoint(tmp_path / "a.ckpt")  # which is when the statistics are computed
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert_close(checkpoint["training_state_dict"], copy_of(module))
    mean = {**copy_of(module), **{n: t for n, t in average.average.items() if not n.endswith(STATISTICS)}}
    fresh = tiny_module()
    load_weights(fresh, checkpoint, "a.ckpt")
    assert_close(copy_of(fresh), with_own_statistics(module, mean, 3))
    assert module.model.training


class NoNorm(TinyNet):
    """A network without a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)


def test_a_network_without_batch_norms_needs_no_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyData, "first_batches", None)
    average = WeightSWA(0, total_steps=6)
    fit(tmp_path, average, module=tiny_module(NoNorm()), epochs=2)
    assert average.count == 2


def test_the_statistics_of_norms_that_stay_in_evaluation_stay(tmp_path: Path) -> None:
    net = TinyNet()
    net.norm.eval()  # as those of frozen stages are
    net.norm.running_mean.fill_(0.25)
    average = WeightSWA(0, total_steps=3)
    fit(tmp_path, average, module=tiny_module(net), epochs=1)
    assert not net.norm.training
    assert torch.equal(average.average["model.norm.running_mean"], torch.full((4,), 0.25))
    assert average.average["model.norm.num_batches_tracked"] == 0


def test_the_last_weights_count_where_training_ends_inside_an_epoch(tmp_path: Path) -> None:
    average = WeightSWA(2, total_steps=5)
    fit(tmp_path, average, module=tiny_module(), max_steps=5)
    assert average.count == 2  # step 3, an epoch's end, and step 5


def test_an_average_that_never_began_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, WeightSWA(6, total_steps=8), module=tiny_module(), epochs=1)
    assert "swa: training ended before step 6, so there is no average; give a smaller swa_start" in caplog.messages


def test_more_epochs_begin_the_average_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="segtrain")
    lightning = fit(tmp_path, WeightSWA(3, total_steps=6), module=tiny_module(), epochs=2)
    lightning.save_checkpoint(tmp_path / "a.ckpt")
    average, recorder = WeightSWA(12, total_steps=15), Recorder()
    lightning = trainer(tmp_path, recorder, average, max_epochs=5)
    lightning.fit(
        tiny_module(), datamodule=TinyData(start=(2, 0)), ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True
    )
    assert average.count == 2  # those at steps 12 and 15
    assert "the average of the weights begins with those of epoch 4, and is scored" in caplog.messages
    assert all(torch.equal(recorder.validated[0][n], tensor) for n, tensor in recorder.trained[0].items())


class Rates(pl.Callback):
    """Keep the learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("start", "own"), [(0, 0), (3, 3), (6, 6)])
def test_the_learning_rate_is_constant_from_the_start_on(start: int, own: int, tmp_path: Path) -> None:
    rates = Rates()
    fit(tmp_path, WeightSWA(start, total_steps=6, lr=0.02), rates, module=tiny_module(), epochs=2)
    assert rates.rates == [0.1] * own + [0.02] * (6 - own)
