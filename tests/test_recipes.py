"""Do averaging, unfreezing, growing crops and early stopping do what they say, and the same after a resume?"""

import csv
import logging
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from conftest import BANDS, Compose, write_bands
from in_process import HaltAt, HaltError, assert_equal, fit, last

# four steps an epoch: with step 8 the average begins, the stages are unfrozen and the crops are whole
ALL = (
    *BANDS,
    "dataset.crop_size=64",
    "trainer.max_epochs=4",
    "ema=false",
    "swa=true",
    "swa_start=0.5",
    "swa_lr=3e-4",
    "frozen_stages=2",
    "unfreeze_epoch=2",
    "progressive=[0.5,1]",
    "early_stopping=9",
    "param_groups.layer_decay=0.5",
)


class Watch(pl.Callback):
    """Remember what every step gets, and the network's first stage after every epoch."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.scored: list[tuple[int, ...]] = []
        self.rates: list[list[float]] = []
        self.weights: list[torch.Tensor] = []
        self.means: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.sizes.append(tuple(batch["image"].shape[-2:]))
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, *arguments: Any) -> None:
        self.scored.append(tuple(batch["image"].shape[-2:]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        stage = pl_module.model.encoder.stages()[0]
        self.weights.append(next(stage[0].parameters()).detach().clone())
        self.means.append(next(b for name, b in stage[0].named_buffers() if name.endswith("running_mean")).clone())


class Whole(NamedTuple):
    """A run that was never stopped."""

    root: str
    run: Path
    watch: Watch
    said: list[str]
    trainer: pl.Trainer


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"dataset.root={write_bands(tmp_path_factory.mktemp('data') / 'bands')}"


@pytest.fixture
def whole(
    data_root: str, compose_config: Compose, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> Whole:
    """Return the run with all recipes at once, which is trained once."""
    if not WHOLE:
        caplog.set_level(logging.INFO, logger="segtrain")
        run, watch = tmp_path_factory.mktemp("whole"), Watch()
        trainer = fit(compose_config, run, *ALL, data_root, seen=[watch])
        WHOLE.append(Whole(data_root, run, watch, said(caplog), trainer))
    return WHOLE[0]


WHOLE: list[Whole] = []


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what segtrain has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "segtrain"]


def rows(run: Path) -> list[dict[str, str]]:
    kept = ("epoch", "step", "val/miou", "val/loss")
    with (run / "metrics.csv").open() as file:
        return [{name: row[name] for name in kept} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("step", "every"),
    [(6, 1), (8, 1), (10, 1), (12, "null"), (14, 3)],
    ids=["before", "at the change", "after it", "at an epoch's end", "inside the last epoch"],
)
def test_a_stopped_run_ends_as_one_never_stopped(
    step: int, every: int | str, whole: Whole, compose_config: Compose, tmp_path: Path
) -> None:
    overrides = (*ALL, whole.root, f"checkpoint.every_n_steps={every}")
    with pytest.raises(HaltError):
        fit(compose_config, tmp_path, *overrides, seen=[HaltAt(step)])
    assert last(tmp_path)["global_step"] == (12 if step == 14 else step)
    fit(compose_config, tmp_path, *overrides)
    ours, theirs = last(tmp_path), last(whole.run)
    for key in ("state_dict", "training_state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(ours[key], theirs[key], key)
    for name in ("WeightSWA", "EarlyStop"):
        assert_equal(ours["callbacks"][name], theirs["callbacks"][name], name)
    assert rows(tmp_path) == rows(whole.run)


def test_the_network_gets_smaller_crops_first_and_is_scored_on_whole_images(whole: Whole) -> None:
    assert whole.watch.sizes == [(32, 32)] * 8 + [(64, 64)] * 8
    assert set(whole.watch.scored) == {(64, 64)}
    assert [line for line in whole.said if "crops are" in line] == [
        "epoch 1: crops are of 32 pixels a side",
        "epoch 3: crops are of 64 pixels a side",
    ]


def test_frozen_stages_are_trained_from_their_epoch_on(whole: Whole) -> None:
    weights, means = whole.watch.weights, whole.watch.means
    for seen in (weights, means):
        assert torch.equal(seen[0], seen[1])
        assert not torch.equal(seen[1], seen[2])
        assert not torch.equal(seen[2], seen[3])
    assert torch.count_nonzero(means[0]) == 0  # as they were made: nothing has trained them
    assert "epoch 3: the first 2 stages of the encoder are trained too" in whole.said


def test_the_learning_rates_are_the_schedules_and_then_those_of_the_average(whole: Whole) -> None:
    groups = whole.trainer.optimizers[0].param_groups
    names = [group["name"] for group in groups]
    assert {"head", "encoder_stage1", "encoder_stage2", "encoder_stage3"} <= set(names)  # frozen ones from the start
    peaks = [group["initial_lr"] for group in groups]
    assert sorted({round(peak / max(peaks), 6) for peak in peaks}) == [0.125, 0.25, 0.5, 1.0]
    for rates in whole.watch.rates[8:]:
        assert rates == pytest.approx([3e-4 * peak / max(peaks) for peak in peaks])
    ours = torch.tensor(whole.watch.rates[:8])
    shares = [(1 - step / 16) ** 0.9 for step in range(8)]  # the schedule has no warm-up: 5 % of 16 steps are none
    torch.testing.assert_close(ours, torch.tensor(peaks) * torch.tensor(shares)[:, None])


def test_the_average_is_saved_once_it_has_begun(whole: Whole) -> None:
    assert last(whole.run)["callbacks"]["WeightSWA"] == {"count": 3, "epoch": 3}
    assert "the average of the weights begins with those of epoch 2, and is scored" in whole.said
    saved = last(whole.run)
    name = "model.classifier.weight"
    assert not torch.equal(saved["state_dict"][name], saved["training_state_dict"][name])


STOPS = (*BANDS, "trainer.max_epochs=9", "optimizer.lr=0", "optimizer.weight_decay=0", "ema=false", "norm=group")


def test_training_ends_after_so_many_validations_without_a_better_score(
    data_root: str, compose_config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="segtrain")
    overrides = (*STOPS, data_root, "trainer.check_val_every_n_epoch=2")  # nothing is learnt: the first score stays
    fit(compose_config, tmp_path, *overrides, "early_stopping=2")
    assert [row["epoch"] for row in rows(tmp_path)] == [str(epoch) for epoch in range(6)]
    assert last(tmp_path)["global_step"] == 24
    score = float(rows(tmp_path)[1]["val/miou"])
    assert said(caplog)[-1] == (
        "stopping early, after epoch 6: 2 validations brought no better val/miou than the best "
        f"({score:.4f} in epoch 2); early_stopping=3 or more, or null, goes on"
    )
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    trainer = fit(compose_config, tmp_path, *overrides, "early_stopping=2")
    assert trainer.global_step == 24
    assert said(caplog)[-1].startswith("this run has stopped early: 2 validations brought no better val/miou")
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before
    fit(compose_config, tmp_path, *overrides, "early_stopping=3")
    assert last(tmp_path)["global_step"] == 32  # one validation more
    fit(compose_config, tmp_path, *overrides, "early_stopping=null")
    assert last(tmp_path)["global_step"] == 36
