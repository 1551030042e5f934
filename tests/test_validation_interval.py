"""Is a run validated that is shorter than the interval of its validations?"""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from conftest import BANDS, Compose, write_bands
from in_process import fit
from tiny import TinySamples, evaluation_loader, tiny_module, trainer, training_loader

from segtrain.callbacks.checkpoints import KeepBest
from segtrain.schedulers import validation_interval


class Validated(pl.Callback):
    """The optimizer steps after which a run was validated."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 3}, [9]),
        ({"max_epochs": 12}, [15, 30]),
        ({"max_steps": 7}, [6]),  # the last whole epoch
        ({"max_steps": 14, "max_epochs": 9}, [12]),
        ({"max_steps": 16}, [15]),
        ({"max_steps": 2}, [2]),  # not one whole epoch
        ({"max_steps": 2, "val_check_interval": 1.0}, [2]),
        ({"max_steps": 2, "val_check_interval": 1}, [1, 2]),
        ({"max_steps": 2, "limit_train_batches": 2}, [2]),
        ({"max_steps": 3, "limit_train_batches": 2}, [2]),
        ({"max_steps": 7, "check_val_every_n_epoch": 1}, [3, 6]),
        ({"max_steps": 1, "accumulate_grad_batches": 2, "limit_train_batches": 2}, [1]),
    ],
    ids=str,
)
def test_a_run_is_scored_though_it_is_shorter_than_the_interval(
    settings: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    given = {"max_epochs": -1, "check_val_every_n_epoch": 5, **settings}
    seen = Validated()
    lightning = trainer(tmp_path, seen, **{**given, **validation_interval(given, 3)})  # 6 images by 2
    lightning.fit(tiny_module(), training_loader(TinySamples()), evaluation_loader(TinySamples(2)))
    assert seen.steps == steps


def test_without_the_batches_of_an_epoch_only_epochs_count() -> None:
    assert validation_interval({"max_epochs": 3, "check_val_every_n_epoch": 5}) == {"check_val_every_n_epoch": 3}
    for rest in ({"max_epochs": -1, "max_steps": 2}, {"max_epochs": 5}, {"max_epochs": None}):
        assert validation_interval({"check_val_every_n_epoch": 5, **rest}) == {}
    assert validation_interval({"max_epochs": 3, "check_val_every_n_epoch": None}, 4) == {}


@pytest.mark.parametrize(("max_steps", "scored"), [(5, 4), (3, 3)])
def test_a_run_of_a_number_of_steps_has_a_best_checkpoint(
    max_steps: int, scored: int, compose_config: Compose, tmp_path: Path
) -> None:
    own = (*BANDS, f"dataset.root={write_bands(tmp_path / 'bands')}", "trainer.check_val_every_n_epoch=5")
    seen = Validated()
    steps = (f"trainer.max_steps={max_steps}", "trainer.max_epochs=-1", "early_stopping=1", "scheduler=plateau")
    done = fit(compose_config, tmp_path / "run", *own, *steps, seen=[seen])
    best = next(callback for callback in done.callbacks if isinstance(callback, KeepBest))  # type: ignore[attr-defined]
    assert seen.steps == [scored]
    assert Path(best.best_model_path) == tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert done.global_step == max_steps
