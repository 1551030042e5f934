"""Is metrics.csv one row an epoch, complete, and cut back when a run resumes?"""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from tiny import NAMES, TinySamples, evaluation_loader, tiny_module, trainer, training_loader

from segtrain.callbacks.checkpoints import KeepBest
from segtrain.callbacks.metrics_csv import MetricsCsv, read_rows
from segtrain.callbacks.training_loss import TrainingLoss
from segtrain.checkpoint import position, read_checkpoint


def fit(path: Path, *, epochs: int, resume: Path | None = None, every: int = 1) -> list[dict[str, str]]:
    callbacks = (TrainingLoss(), MetricsCsv(path, NAMES))
    lightning = trainer(path.parent, *callbacks, max_epochs=epochs, check_val_every_n_epoch=every)
    loaders = training_loader(TinySamples()), evaluation_loader(TinySamples(3))
    lightning.fit(tiny_module(), *loaders, ckpt_path=resume, weights_only=True)
    lightning.save_checkpoint(path.parent / f"{epochs}.ckpt")
    return read_rows(path)


def test_every_epoch_is_a_row_with_the_loss_and_all_scores(tmp_path: Path) -> None:
    rows = fit(tmp_path / "metrics.csv", epochs=2)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "3"), ("1", "6")]
    names = ["train/epoch_loss", "val/loss", "val/miou", *(f"val/iou/{name}" for name in NAMES)]
    assert all(math.isfinite(float(row[name])) for row in rows for name in names)
    text = (tmp_path / "metrics.csv").read_text()
    assert text.count("epoch,step,") == 1


def test_an_epoch_without_validation_has_no_scores_instead_of_the_last_ones(tmp_path: Path) -> None:
    rows = fit(tmp_path / "metrics.csv", epochs=3, every=2)
    assert [row["val/miou"] != "" for row in rows] == [False, True, False]
    assert all(row["train/epoch_loss"] for row in rows)


def test_a_resumed_run_replaces_the_rows_behind_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(path, epochs=1)
    expected = fit(path, epochs=3, resume=tmp_path / "1.ckpt")
    assert [row["epoch"] for row in expected] == ["0", "1", "2"]
    assert fit(path, epochs=3, resume=tmp_path / "1.ckpt") == expected


def test_a_new_run_starts_with_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(path, epochs=2)
    assert len(fit(path, epochs=1)) == 1


@pytest.mark.parametrize("torn", ["1", "1,", "1,6", "\n"])
def test_a_last_line_that_a_kill_tore_off_does_not_stop_the_resumed_run(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(path, epochs=1)
    with path.open("a") as file:
        file.write(torn)
    rows = fit(path, epochs=2, resume=tmp_path / "1.ckpt")
    assert [row["epoch"] for row in rows] == ["0", "1"]


class Rows(pl.Callback):
    """Count the table's rows whenever a checkpoint is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: list[int] = []

    def on_save_checkpoint(self, *arguments: Any) -> None:
        self.counts.append(len(read_rows(self.path)))


def test_the_best_checkpoint_of_an_epoch_is_written_after_the_epochs_row(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "metrics.csv")
    best = KeepBest(tmp_path, monitor="val/loss", mode="min")
    own = (TrainingLoss(), MetricsCsv(rows.path, NAMES), rows, best)
    lightning = trainer(tmp_path, *own, max_epochs=2, check_val_every_n_epoch=1)
    lightning.fit(tiny_module(), training_loader(TinySamples()), evaluation_loader(TinySamples(3)))
    assert rows.counts == [1, 2]
    assert position(read_checkpoint(tmp_path / "best.ckpt")) == (2, 0)


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.csv") == []
