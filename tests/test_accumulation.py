"""Does a run whose optimizer steps are taken in parts train, stop and go on as one that takes them whole?"""

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import tiny
import torch
from conftest import BANDS, Compose, write_bands
from PIL import Image
from tiny import VOID, TinySamples, tiny_module

from segtrain import build, training
from segtrain.callbacks.progress import Progress
from segtrain.callbacks.stop import SIGNALS, Stopped
from segtrain.checkpoint import position, read_checkpoint
from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import check_objects
from segtrain.config.schema import TrainConfig
from segtrain.data.samples import Key, collate
from segtrain.data.steps import count_labels, tell_of_step
from segtrain.errors import UserError
from segtrain.schedulers import schedule_length

OVERRIDES = (
    *(argument for argument in BANDS if not argument.startswith(("loader.batch_size", "trainer.precision"))),
    "trainer.precision=64-true",  # what is left between two runs is the order of sums
    "loader.batch_size=4",
    "norm=group",  # batch norm sees the parts
    "loss=ce",
    "loss.class_weights=[1.0,0.3,2.0]",
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "callbacks=none",
    "logger=none",
)
Fit = Callable[..., "Fitted"]


class Fitted(SimpleNamespace):
    """A run's folder, trainer, and the losses that it logged for each optimizer step."""

    run: Path
    trainer: pl.Trainer
    losses: list[float]

    def state(self) -> dict[str, Any]:
        return read_checkpoint(self.run / "checkpoints" / "last.ckpt")


class Losses(pl.Callback):
    """Collect what is logged for each step."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self.step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self.step < trainer.global_step:
            self.step = trainer.global_step
            self.found.append(float(trainer.callback_metrics["train/loss"]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small data set with very different shares of void in its training images."""
    folder = write_bands(tmp_path_factory.mktemp("bands"))
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted((folder / "trainannot").iterdir())):
        mask = np.array(Image.open(path))
        mask[rng.random(mask.shape) < (0.99, 0.0, 0.8, 0.1)[number % 4]] = 255
        Image.fromarray(mask).save(path)
    return folder


@pytest.fixture
def fit(compose_config: Compose, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fit]:
    """Train in this process as the train command does; return what came out."""
    monkeypatch.setattr(training, "prepare", lambda run, *_, **__: run.mkdir(exist_ok=True))  # without its lock
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def fitted(name: str, *overrides: str, callbacks: tuple[pl.Callback, ...] = ()) -> Fitted:
        run = tmp_path / name
        cfg = compose_config(*OVERRIDES, f"dataset.root={root}", *overrides)
        values, plain = check_keys(cfg, TrainConfig), plain_config(cfg)
        check_objects(values, plain=plain)
        resumed = training.prepare_run(run, values, plain)
        data = build.build_data(values, start=resumed.start)
        steps = schedule_length(values["trainer"], data.batches_per_epoch(1))
        module = build.build_module(values, plain=plain, total_steps=steps)
        losses = Losses()
        own = [*build.build_callbacks(values, run, total_steps=steps), losses, *callbacks]
        trainer = build.build_trainer(values, run, callbacks=own, batches_per_epoch=data.batches_per_epoch(1))
        checkpoint = None if resumed.checkpoint is None else str(resumed.checkpoint)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return Fitted(run=run, trainer=trainer, losses=losses.found)

    yield fitted
    for number, handler in handlers.items():
        signal.signal(number, handler)


def assert_same(ours: Any, theirs: Any, *, tolerance: float = 1e-9) -> None:
    """Compare weights, average, optimizer and schedule of two checkpoints."""
    options = {"rtol": tolerance, "atol": tolerance / 100}
    for key in ("state_dict", "training_state_dict"):
        torch.testing.assert_close(ours[key], theirs[key], **options)
    momenta, others = (list(state["optimizer_states"][0]["state"].values()) for state in (ours, theirs))
    torch.testing.assert_close(momenta, others, **options)
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    assert ours["global_step"] == theirs["global_step"]


@pytest.fixture
def whole(fit: Fit) -> Fitted:
    return fit("whole")


@pytest.mark.parametrize("parts", [2, 4])
def test_a_run_in_parts_ends_with_the_weights_and_losses_of_one_in_whole_steps(
    parts: int, whole: Fitted, fit: Fit
) -> None:
    divided = fit("parts", f"trainer.accumulate_grad_batches={parts}")
    assert_same(divided.state(), whole.state())
    assert len(whole.losses) == 4
    assert divided.losses == pytest.approx(whole.losses, rel=1e-9)
    rows = [(fitted.run / "metrics.csv").read_text().splitlines()[1].split(",") for fitted in (divided, whole)]
    assert rows[0][:2] == rows[1][:2] == ["0", "2"]
    epoch_losses, scores = ([[float(row[column]) for row in rows] for column in part] for part in ((2,), (5, 6, 7)))
    for ours, theirs in (*epoch_losses, *scores):
        assert ours == pytest.approx(theirs, rel=1e-9)


class TwoOutputs(torch.nn.Module):
    """Logits and auxiliary ones."""

    aux_weights = {"aux": 0.4}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Conv2d(3, 3, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.main(image), "aux": self.side(image)}


def test_auxiliary_outputs_are_divided_as_the_others(tmp_path: Path) -> None:
    samples, weights = [TinySamples()[Key(0, number)] for number in range(8)], []
    samples[0]["mask"][:] = samples[5]["mask"][1:] = VOID
    count = functools.partial(count_labels, num_classes=3, ignore_index=VOID)
    for parts in (1, 2, 4):
        batches = [collate(samples[i : i + 4 // parts], count=count) for i in range(0, 8, 4 // parts)]
        for step in [batches[i : i + parts] for i in range(0, len(batches), parts)] if parts > 1 else ():
            tell_of_step(step)
        torch.manual_seed(0)
        module = tiny_module(TwoOutputs())
        lightning = tiny.trainer(tmp_path, max_epochs=1, accumulate_grad_batches=parts)
        lightning.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
        assert lightning.global_step == 2
        weights.append(module.model.state_dict())
    for found in weights[1:]:
        torch.testing.assert_close(found, weights[0], rtol=1e-5, atol=1e-6)


class Signal(pl.Callback):
    """Ask the process to stop when a batch begins, or when the first validation ends."""

    def __init__(self, batch: int | None) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.batch is None:
            os.kill(os.getpid(), signal.SIGTERM)


class Places(pl.Callback):
    """Collect at which batch of its epoch a run is when a checkpoint is written."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self.found.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)


IN_PARTS = (  # 8 batches an epoch
    "trainer.accumulate_grad_batches=2",
    "trainer.precision=32-true",
    "loader.batch_size=2",
    "checkpoint.every_n_steps=1",
)


@pytest.mark.parametrize("batch", [2, 3, 11], ids=["first part", "second part", "second epoch"])
def test_a_signal_inside_a_step_waits_for_its_end_and_the_resumed_run_ends_as_one_never_stopped(
    batch: int, fit: Fit
) -> None:
    straight, places = fit("straight", *IN_PARTS), Places()
    with pytest.raises(Stopped):
        fit("stopped", *IN_PARTS, callbacks=(Signal(batch), places))
    stopped = read_checkpoint(straight.run.parent / "stopped" / "checkpoints" / "last.ckpt")
    assert stopped["global_step"] == batch // 2 + 1
    assert position(stopped) == (batch // 8, batch % 8 // 2 * 2 + 2)
    resumed = fit("stopped", *IN_PARTS, f"resume={straight.run.parent / 'stopped'}", callbacks=(places,))
    assert_same(resumed.state(), straight.state(), tolerance=0)
    assert len(places.found) >= 8
    assert all(place % 2 == 0 for place in places.found)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 4)])
@pytest.mark.parametrize("inside", [True, False], ids=["inside an epoch", "at its end"])
def test_a_run_goes_on_in_more_or_fewer_parts(inside: bool, before: int, after: int, whole: Fitted, fit: Fit) -> None:
    folder = whole.run.parent / "divided"
    with pytest.raises(Stopped):
        fit("divided", f"trainer.accumulate_grad_batches={before}", callbacks=(Signal(0 if inside else None),))
    resumed = fit("divided", f"resume={folder}", f"trainer.accumulate_grad_batches={after}")
    assert_same(resumed.state(), whole.state(), tolerance=1e-5)  # Lightning loads weights before they are float64
    assert resumed.trainer.current_epoch == whole.trainer.current_epoch


class Break(pl.Callback):
    """Make the gradients of a step infinite."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if trainer.global_step == 1:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.fill_(float("inf"))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        trainer.callbacks.insert(0, trainer.callbacks.pop(trainer.callbacks.index(self)))  # before who watches


def test_a_step_that_is_not_finite_leaves_all_its_batches(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"epoch 1, batch 4: the gradients are not finite"):
        fit("broken", "trainer.accumulate_grad_batches=2", callbacks=(Break(),))
    batches = torch.load(tmp_path / "broken" / "nonfinite.pt", weights_only=True)
    facts = json.loads((tmp_path / "broken" / "nonfinite.json").read_text())
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 3, 32, 32)] * 2
    seen = [index for batch in batches for index in batch["index"].tolist()]
    assert [key["sample"] for key in facts["samples"]] == seen
    assert len(set(seen)) == len(facts["images"]) == 4


def test_what_ends_inside_a_step_is_refused_before_training(fit: Fit) -> None:
    with pytest.raises(UserError, match=r"^trainer\.limit_train_batches: 1 ends inside an optimizer step"):
        fit("refused", "trainer.accumulate_grad_batches=2", "+trainer.limit_train_batches=1")
    with pytest.raises(UserError, match=r"^loader\.batch_size: 4 images .* give a multiple of 3"):
        fit("refused", "trainer.accumulate_grad_batches=3")


class Shown(Progress):
    """A bar that keeps what it is told."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.told: list[str] = []
        self.bar: Any = SimpleNamespace(update=lambda task, **news: self.told.append(news["description"]))

    def _stop(self) -> None:
        pass


def test_the_bar_shows_the_loss_of_the_step(fit: Fit) -> None:
    bar = Shown(every_n_steps=1)
    run = fit(
        "shown", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=-1", "trainer.max_steps=2", callbacks=(bar,)
    )
    first, second = (f"loss {loss:.3f}" for loss in run.losses)
    assert [line.strip() for line in bar.told] == ["epoch 1", *[f"epoch 1  {first}"] * 2, f"epoch 1  {second}"]
