"""Does TensorBoard's hyperparameters tab show every run of a sweep once, with the numbers of its metrics.json?"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, run_segtrain
from hparams_tab import read_tab
from pytorch_lightning.loggers import TensorBoardLogger

from segtrain.results.collect import collect
from segtrain.results.rows import make_results
from segtrain.tensorboard import MOST_CLASSES, final_scores, finish_hparams, start_hparams


def logger_of(run: Path) -> TensorBoardLogger:
    logger = TensorBoardLogger(str(run), name="", version="tensorboard", default_hp_metric=False)
    logger.experiment.add_scalar("val/miou", 0.1, 1)  # of an epoch
    return logger


def start(run: Path, choices: dict[str, str] | None = None, **optimizer: Any) -> TensorBoardLogger:
    logger = logger_of(run)
    start_hparams(logger, {"optimizer": optimizer, "ema": True, "name": run.name}, choices=choices or {})
    return logger


def test_every_run_has_its_settings_and_only_final_scores(tmp_path: Path) -> None:
    first = start(tmp_path / "0", {"loss": "ce", "callbacks": "default"}, lr=0.1)
    second = start(tmp_path / "1", {"loss": "focal"}, lr=0.2, gamma=3.0)
    finish_hparams(first, {"val/miou": 0.5, "val/loss": 0.7, "epoch": 3}, step=9)
    finish_hparams(second, {"val/miou": 0.6, "val/loss": float("nan"), "epoch": 3}, step=9)
    rows, differing, metrics = read_tab(tmp_path)
    assert metrics == {"final/val/miou", "final/val/loss", "final/epoch"}  # and none of the curves
    assert {"optimizer.lr", "loss"} <= differing
    assert "ema" not in differing
    assert "callbacks" not in differing
    assert rows["0/tensorboard/final"].scores == pytest.approx(
        {"final/val/miou": 0.5, "final/val/loss": 0.7, "final/epoch": 3}
    )
    assert rows["1/tensorboard/final"].settings["optimizer.gamma"] == 3.0
    assert "final/val/loss" not in rows["1/tensorboard/final"].scores
    assert all(row.ended for row in rows.values())


def test_a_run_that_has_not_ended_has_no_scores(tmp_path: Path) -> None:
    finish_hparams(start(tmp_path / "0", lr=0.1), {"val/miou": 0.5}, step=9)
    start(tmp_path / "1", lr=0.2)
    rows, _, _ = read_tab(tmp_path)
    assert (rows["1/tensorboard/final"].scores, rows["1/tensorboard/final"].ended) == ({}, False)


def test_a_run_that_is_gone_on_with_is_there_once_with_its_last_settings_and_scores(tmp_path: Path) -> None:
    finish_hparams(start(tmp_path / "0", lr=0.1), {"val/miou": 0.5, "test/miou": 0.4}, step=9)
    again = start(tmp_path / "0", lr=0.2)
    rows, _, _ = read_tab(tmp_path)
    assert rows["0/tensorboard/final"].scores == {}
    finish_hparams(again, {"val/miou": 0.6}, step=18)
    rows, _, _ = read_tab(tmp_path)
    assert list(rows) == ["0/tensorboard/final"]
    assert rows["0/tensorboard/final"].settings["optimizer.lr"] == 0.2
    assert rows["0/tensorboard/final"].scores == pytest.approx({"final/val/miou": 0.6})


@pytest.mark.parametrize(("count", "kept"), [(MOST_CLASSES, True), (MOST_CLASSES + 1, False)])
def test_scores_of_many_classes_are_no_columns(count: int, kept: bool) -> None:
    classes = {f"val/{score}/{number}": 0.5 for number in range(count) for score in ("iou", "f1")}
    scores = final_scores({"val/miou": 0.5, **classes, "val/iou/absent": None})
    assert scores["final/val/miou"] == 0.5
    assert ("final/val/iou/3" in scores) == kept


def check_folder(folder: Path, runs: list[Path]) -> None:
    """Compare the tab, the results and every run's metrics.json."""
    rows, _, _ = read_tab(folder)
    assert set(rows) == {f"{run.relative_to(folder)}/tensorboard/final" for run in runs}
    of_run = {row.group.folder: row for row in make_results(collect(folder)).rows}
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        session = rows[f"{run.relative_to(folder)}/tensorboard/final"]
        numbers = {f"final/{name}": value for name, value in metrics.items() if value is not None}
        assert session.scores == pytest.approx(numbers, rel=1e-6)  # the tab has them as float32
        scores = {f"final/{name}": score.mean for name, score in of_run[run].scores.items()}
        assert scores == {name: value for name, value in numbers.items() if name not in ("final/epoch", "final/step")}


def typed(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a printed command in a shell, as a user who types it does."""
    script = f'segtrain() {{ "{sys.executable}" -m segtrain "$@"; }}\n{line}'
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_grid_and_a_search_show_the_numbers_of_their_runs_and_the_printed_commands_work(
    bands: tuple[str, ...], tmp_path: Path
) -> None:
    common = (*bands, "trainer.max_epochs=1")
    folder = tmp_path / "a grid"
    done = run_segtrain("train", *common, "-m", "loss=ce,focal", f"hydra.sweep.dir='{folder}'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_folder(folder, [folder / "0", folder / "1"])
    shown = run_segtrain("results", str(folder), cwd=tmp_path).stdout
    (evaluation,) = [line for line in shown.splitlines() if line.startswith("  segtrain eval")]
    (training,) = [line for line in shown.splitlines() if line.startswith("  segtrain train")]
    done = typed(evaluation, tmp_path)
    assert done.returncode == 0, done.stderr
    done = typed(training, tmp_path)
    assert done.returncode == 0, done.stderr
    (again,) = (tmp_path / "outputs" / "runs").iterdir()
    best = make_results(collect(folder)).winner.group.folder
    metrics, before = (json.loads((run / "metrics.json").read_text()) for run in (again, best))
    tested = json.loads((best / "eval" / "test" / "metrics.json").read_text())
    assert metrics["val/miou"] == before["val/miou"]  # the same training, to the bit
    assert metrics["test/miou"] == pytest.approx(tested["test/miou"])

    done = run_segtrain("sweep", *common, "n_trials=2", "study=tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    search = tmp_path / "outputs" / "sweeps" / "tiny"
    check_folder(search, sorted((search / "trials").iterdir()))
