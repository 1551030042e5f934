"""Does a plateau schedule get the score of every validation once, and is that in the checkpoint of the epoch?"""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinySamples, evaluation_loader, tiny_module, trainer, training_loader

from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.plateau import StepPlateau
from segtrain.checkpoint import LAST
from segtrain.module import SegmentationModule
from segtrain.schedulers import PlateauLR

SAMPLES = TinySamples()


class Scores(pl.Callback):
    """Remember what every validation scored, and the learning rate after it."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.scores.append(float(trainer.callback_metrics["val/loss"]))


def module() -> SegmentationModule:
    return tiny_module(
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=3.0),
        scheduler=lambda o: PlateauLR(o, monitor_mode="min", factor=0.5, patience=0),
    )


def fit(folder: Path, *, epochs: int, every: int = 1, resume: Path | None = None) -> tuple[pl.Trainer, Scores]:
    seen = Scores()
    own = [StepPlateau("val/loss"), KeepBest(folder, monitor="val/loss", mode="min"), KeepLast(folder), seen]
    lightning = trainer(folder, *own, max_epochs=epochs, check_val_every_n_epoch=every)
    batches = len(training_loader(SAMPLES))
    loader = training_loader(SAMPLES, start=(0 if resume is None else 6, 0))
    assert batches == 3
    lightning.fit(
        module(),
        loader,
        evaluation_loader(SAMPLES),
        ckpt_path=None if resume is None else str(resume),
        weights_only=True,
    )
    return lightning, seen


def expected(scores: list[float]) -> list[float]:
    """Return the learning rate after each score, by the definition of a plateau without patience."""
    rate, best, rates = 3.0, float("inf"), []
    for score in scores:
        if score >= best * (1 - 1e-4):
            rate /= 2
        best = min(best, score) if score < best * (1 - 1e-4) else best
        rates.append(rate)
    return rates


@pytest.mark.parametrize("every", [1, 2])
def test_it_is_stepped_by_the_score_of_every_validation(every: int, tmp_path: Path) -> None:
    lightning, seen = fit(tmp_path, epochs=10, every=every)
    assert len(seen.scores) == 10 // every
    rates = expected(seen.scores)
    assert seen.rates[every::every] == rates[:-1]
    assert len(set(rates)) > 2
    scheduler = lightning.lr_scheduler_configs[0].scheduler
    assert scheduler.last_epoch == 10 // every
    assert lightning.optimizers[0].param_groups[0]["lr"] == rates[-1]


def test_a_resumed_run_has_missed_no_validation(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path / "whole", epochs=10)
    fit(tmp_path / "part", epochs=6)
    resumed, _ = fit(tmp_path / "part", epochs=10, resume=tmp_path / "part" / LAST)
    states: list[Any] = [run.lr_scheduler_configs[0].scheduler.state_dict() for run in (whole, resumed)]
    assert states[0] == states[1]
    weights = [run.lightning_module.state_dict() for run in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
