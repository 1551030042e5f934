"""Has a run that ended at a validation inside an epoch, and goes on, the same validations as one never ended?"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinyData, tiny_module, trainer

from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.early_stop import EarlyStop
from segtrain.callbacks.plateau import StepPlateau
from segtrain.callbacks.stop import StopOnSignal, Stopped
from segtrain.checkpoint import LAST, position, read_checkpoint
from segtrain.schedulers import PlateauLR
from segtrain.signals import SIGNALS


class Scores(pl.Callback):
    """Remember the score of every validation by its step."""

    def __init__(self) -> None:
        self.found: dict[int, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found[trainer.global_step] = float(trainer.callback_metrics["val/loss"])


class KilledError(Exception):
    """Stands for a process that ends without a word."""


class End(pl.Callback):
    """Kill the run, or ask it to stop, when it comes to a hook in a step."""

    def __init__(self, stop: StopOnSignal, *, hook: str, step: int, kill: bool) -> None:
        self.stop, self.step, self.kill = stop, step, kill
        setattr(self, hook, self.end)

    def end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and self.kill:
            raise KilledError
        if trainer.global_step == self.step:
            self.stop.received = signal.SIGTERM


class Fitted:
    """A run of two epochs of three steps, each validated after the second, from the start or a checkpoint."""

    def __init__(self, folder: Path, *, resume: bool = False, end: dict[str, Any] | None = None, **due: Any) -> None:
        last, self.seen, self.early = KeepLast(folder, **due), Scores(), EarlyStop("val/loss", mode="min", patience=9)
        self.best, stop = KeepBest(folder, monitor="val/loss", mode="min"), StopOnSignal(last)
        ending = [End(stop, **end)] if end else []
        own = [self.seen, *ending, StepPlateau("val/loss"), self.early, self.best, last, stop]
        self.trainer = trainer(folder, *own, max_epochs=2, val_check_interval=2)
        self.module = tiny_module(
            optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=3.0),
            scheduler=lambda o: PlateauLR(o, monitor_mode="min", factor=0.5, patience=0, threshold=0.5),
        )
        path = folder / LAST if resume else None
        data = TinyData(start=position(read_checkpoint(path)) if path else (0, 0))
        self.trainer.fit(self.module, datamodule=data, ckpt_path=path, weights_only=True)

    def state(self) -> dict[str, Any]:
        plateau: Any = self.trainer.lr_scheduler_configs[0].scheduler
        return {
            "plateau": plateau.state_dict(),
            "best": float(self.best.best_model_score or 0),
            "waited": self.early.waited,
        }


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("due", [{"every_n_steps": 1}, {"every_minutes": 1e-9}], ids=["steps", "minutes"])
@pytest.mark.parametrize(
    ("end", "saved"),
    [
        ({"hook": "on_validation_start", "step": 5, "kill": True}, 4),
        ({"hook": "on_train_batch_start", "step": 5, "kill": True}, 5),
        ({"hook": "on_train_batch_start", "step": 4, "kill": False}, 4),  # one process does not wait for a validation
        ({"hook": "on_validation_epoch_end", "step": 5, "kill": False}, 5),
    ],
    ids=["killed before it", "killed after it", "asked in its step", "asked in it"],
)
def test_it_has_the_validations_of_a_run_never_ended(
    end: dict[str, Any], saved: int, due: dict[str, Any], tmp_path: Path
) -> None:
    whole = Fitted(tmp_path / "whole", **due)
    with pytest.raises((KilledError, Stopped)):
        Fitted(tmp_path / "part", end=end, **due)
    assert read_checkpoint(tmp_path / "part" / LAST)["global_step"] == saved
    resumed = Fitted(tmp_path / "part", resume=True, **due)
    assert list(whole.seen.found) == [2, 5]
    assert resumed.seen.found == {step: score for step, score in whole.seen.found.items() if step > saved}
    assert resumed.state() == whole.state()
    weights = [fitted.module.state_dict() for fitted in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
