"""What the tests of searches share: a study in memory or in a file, and workers with trainings that need no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from segtrain.sweep import watch, worker
from segtrain.sweep.samplers import SamplerSettings
from segtrain.sweep.slots import Slot
from segtrain.sweep.storage import open_search
from segtrain.sweep.study import Search
from segtrain.sweep.worker import Worker
from segtrain.sweep.written_space import parse_space

FAKE = Path(__file__).with_name("fake_train.py")
X = {"x": "interval(0, 1)"}
RANDOM = SamplerSettings(sampler="random", pruner="none", startup_trials=1, warmup=1, seed=0)


@pytest.fixture
def fake_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials be `fake_train.py`, and look at them often."""
    monkeypatch.setattr("segtrain.sweep.training.TRAIN", ("-S", str(FAKE)))
    monkeypatch.setattr(worker, "POLL", 0.02)
    monkeypatch.setattr(watch, "POLL", 0.02)
    monkeypatch.setattr(worker, "IDLE", 0.1)


def memory_search(space: dict[str, Any] = X, *, n_trials: int = 4, retries: int = 2, **options: Any) -> Search:
    """Return a search whose study is in memory."""
    sampler, nothing = optuna.samplers.RandomSampler(seed=0), optuna.pruners.NopPruner()
    study = optuna.create_study(**{"direction": "maximize", "sampler": sampler, "pruner": nothing, **options})
    return Search(study, parse_space(space), n_trials=n_trials, retries=retries)


def file_search(folder: Path, space: dict[str, Any] = X, *, n_trials: int = 4, **options: Any) -> Search:
    """Return a search whose study is in a file."""
    given: dict[str, Any] = {
        "space": parse_space(space),
        "objectives": {"val/miou": "max"},
        "overrides": ["epochs=1"],
        "settings": RANDOM,
        "retries": 2,
        **options,
    }
    return open_search(f"sqlite:///{folder}/study.db", "s", n_trials=n_trials, **given)


def make_worker(search: Search, folder: Path, *overrides: str, slots: int = 1, **options: Any) -> Worker:
    """Return a worker of a search."""
    given: dict[str, Any] = {
        "seeds": [0],
        "objectives": {"val/miou": "max"},
        "retries": search.retries,
        "slots": [Slot(number, (), 1) for number in range(slots)],
        **options,
    }
    return Worker(search, folder, overrides=overrides, **given)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the trial.json of every trial."""
    paths: Sequence[Path] = sorted((folder / "trials").glob("*/trial.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def states(folder: Path) -> list[str]:
    """Return the states of all trials, in the order of their folders."""
    return [record["state"] for record in records(folder).values()]
