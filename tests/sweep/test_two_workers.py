"""Do two workers on one study, of which one is killed and one interrupted, lose or repeat nothing?"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep.helpers import records

from segtrain.run_lock import is_held

SEARCH = (
    "study=two",
    "n_trials=3",
    "slots=1",
    "sweep.pruner=none",
    "sweep.sampler=random",
    "checkpoint.monitor=val/loss",
    "checkpoint.mode=min",
    "trainer.max_epochs=12",
    "callbacks=none",
)


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("SEGTRAIN_RUN_ID", None)
    command = [sys.executable, "-m", "segtrain", "sweep", *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def trainings_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder, of the trainings in it."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in lines if str(folder) in line and "segtrain train" in line]


@pytest.mark.slow
def test_one_worker_killed_and_one_interrupted_lose_and_repeat_nothing(tmp_path: Path, bands: tuple[str, ...]) -> None:
    search = [text for text in bands if not text.startswith("trainer.max_epochs")] + list(SEARCH)
    sweep = tmp_path / "outputs" / "sweeps" / "two"
    killed = start(tmp_path, *search)
    wait_until(lambda: killed.poll() is not None or list(sweep.glob("trials/*/trial.json")), 240, "no trial")
    assert killed.poll() is None, killed.communicate()
    interrupted = start(tmp_path, *search)
    wait_until(lambda: len(list(sweep.glob("trials/*/checkpoints/last.ckpt"))) >= 2, 240, "no two trials")
    killed.kill()
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does it
    output, errors = interrupted.communicate(timeout=120)
    killed.communicate(timeout=120)
    assert interrupted.returncode == 130, output + errors
    assert "segtrain: stopped by Ctrl-C; the same command goes on with the search" in errors
    assert "of 3 trials done" in output
    wait_until(lambda: not trainings_of(sweep), 30, "a training has outlived its worker")
    assert not any(is_held(path) for path in sweep.glob("trials/*"))

    again = start(tmp_path, *search)
    output, errors = again.communicate(timeout=400)
    assert again.returncode == 0, output + errors
    assert "is lost with its worker, and is tried again" in output
    assert_all_is_explained(sweep)


def assert_all_is_explained(sweep: Path) -> None:
    found = records(sweep)
    assert {path.name for path in (sweep / "trials").iterdir()} == found.keys()
    assert [record["state"] for record in found.values()] == ["complete"] * 3
    assert len({json.dumps(record["parameters"]) for record in found.values()}) == 3
    study = optuna.load_study(study_name="two", storage=f"sqlite:///{sweep / 'study.db'}")
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert {trial.user_attrs["folder"] for trial in complete} == found.keys()
    assert len(complete) == 3
    assert sorted(trial.user_attrs.get("tries", 0) for trial in complete) == [0, 0, 1]
    for trial in complete:
        folder = sweep / "trials" / trial.user_attrs["folder"]
        assert found[folder.name]["values"]["val/loss"] == json.loads((folder / "metrics.json").read_text())["val/loss"]
        epochs = [int(line.split(",")[0]) for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
        assert epochs == list(range(12))
    assert not (sweep / "workers").exists()
