"""Does training end when the score gets no better, whatever the score does, and is the waiting carried over?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from tiny import TinyData, tiny_module, trainer

from segtrain.callbacks.early_stop import EarlyStop

NAN, INF = float("nan"), float("inf")


def epochs_of(scores: list[float], stop: EarlyStop, *, first: int = 0, **options: Any) -> int:
    """Return how many epochs are trained whose validations have these scores."""
    lightning: Any = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, is_global_zero=True, should_stop=False,
        global_step=0, **{"min_epochs": None, "min_steps": None, **options},
    )  # fmt: skip
    stop.on_fit_start(lightning, None)  # type: ignore[arg-type]
    for epoch, score in enumerate(scores, start=first):
        if lightning.should_stop:
            return epoch - first
        lightning.current_epoch, lightning.global_step = epoch, (epoch + 1) * 10
        lightning.callback_metrics = {"val/miou": score}
        stop.on_validation_end(lightning, None)  # type: ignore[arg-type]
        assert not lightning.should_stop, "inside an epoch"
        stop.on_train_epoch_end(lightning, None)  # type: ignore[arg-type]
    return len(scores)


@pytest.mark.parametrize(
    ("mode", "patience", "scores", "trained"),
    [
        ("max", 1, [0.1, 0.2, 0.2, 0.3], 3),  # as good is no better
        ("max", 2, [0.1, 0.2, 0.1, 0.3, 0.3, 0.2, 0.9], 6),
        ("min", 2, [0.3, 0.4, 0.2, 0.3, 0.2, 0.1], 5),
        ("max", 2, [NAN, 0.1, NAN, INF, 0.2], 4),
        ("min", 2, [NAN, NAN, 0.1], 2),
        ("min", 2, [0.3, -INF, 0.4, 0.2], 3),
        ("max", 3, [0.1, 0.2, 0.3, 0.4], 4),
    ],
)
def test_it_ends_after_so_many_scores_that_are_no_better(
    mode: str, patience: int, scores: list[float], trained: int
) -> None:
    assert epochs_of(scores, EarlyStop("val/miou", mode=mode, patience=patience)) == trained


def test_the_trainers_least_number_of_epochs_holds() -> None:
    assert epochs_of([0.5] * 9, EarlyStop("val/miou", mode="max", patience=1), min_epochs=5) == 5
    assert epochs_of([0.5] * 9, EarlyStop("val/miou", mode="max", patience=1), min_steps=70) == 7


@pytest.mark.parametrize("cut", range(1, 6))
def test_the_waiting_goes_on_in_a_resumed_run(cut: int) -> None:
    scores = [0.1, 0.2, 0.1, 0.15, 0.3, 0.1, 0.2, 0.3, 0.5]
    first, second = (EarlyStop("val/miou", mode="max", patience=3) for _ in range(2))
    assert epochs_of(scores[:cut], first) == cut
    second.load_state_dict(first.state_dict())
    assert cut + epochs_of(scores[cut:], second, first=cut) == 8
    assert (second.best, second.best_epoch) == (0.3, 4)


def test_a_run_that_has_ended_goes_on_with_more_patience_alone() -> None:
    ended = EarlyStop("val/miou", mode="max", patience=2)
    assert epochs_of([0.3, 0.2, 0.1, 0.9], ended) == 3
    for patience, trained in ((1, 0), (2, 0), (3, 1), (4, 2)):
        again = EarlyStop("val/miou", mode="max", patience=patience)
        again.load_state_dict(ended.state_dict())
        assert epochs_of([0.1, 0.1, 0.1], again, first=3) == trained


def test_the_state_of_another_score_is_passed_over() -> None:
    other, stop = EarlyStop("val/loss", mode="min", patience=1), EarlyStop("val/miou", mode="max", patience=1)
    other.waited, other.best, other.stopped = 7, 0.1, True
    stop.load_state_dict(other.state_dict())
    assert (stop.waited, stop.best, stop.stopped) == (0, None, False)


class Validations(pl.Callback):
    """Count the epochs and validations of a run."""

    def __init__(self) -> None:
        self.epochs = self.scores = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.scores += 1


@pytest.mark.parametrize(("options", "epochs"), [({}, 3), ({"check_val_every_n_epoch": 2}, 6)])
def test_an_epoch_is_trained_to_its_end(options: dict[str, Any], epochs: int, tmp_path: Path) -> None:
    seen, stop = Validations(), EarlyStop("val/loss", mode="max", patience=2)  # it falls, which is no better
    lightning = trainer(tmp_path, stop, seen, max_epochs=20, **options)
    lightning.fit(tiny_module(), datamodule=TinyData())
    assert (seen.epochs, seen.scores, lightning.global_step) == (epochs, 3, 3 * epochs)


def test_a_validation_inside_an_epoch_does_not_end_it(tmp_path: Path) -> None:
    seen, stop = Validations(), EarlyStop("val/loss", mode="max", patience=1)
    lightning = trainer(tmp_path, stop, seen, max_epochs=20, val_check_interval=1)
    lightning.fit(tiny_module(), datamodule=TinyData())
    assert (seen.epochs, lightning.global_step) == (1, 3)
