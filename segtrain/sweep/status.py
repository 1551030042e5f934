"""How is a search getting on: what is done, which trial is the best, and how long will the rest take?"""

import heapq
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtrain.results.pareto import pareto_front
from segtrain.sweep.running import Running
from segtrain.sweep.training import Training
from segtrain.sweep.worker import Worker

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Status:
    """A search at one moment, over all its workers.

    Attributes:
        n_trials: how many trials there are to be.
        done: how many have ended for good.
        counts: of the trials in each state, by its name in lower case: complete, pruned, fail, running, waiting.
        best: the trials that no other is better than: one, or with several objectives the Pareto front.
        seconds_left: about; None as long as no trial has ended.
    """

    n_trials: int
    done: int
    counts: Mapping[str, int]
    best: Sequence[FrozenTrial]
    seconds_left: float | None


def status_of(worker: Worker) -> Status:
    """Ask the study how its search is getting on."""
    search = worker.search
    trials = search.trials()
    counts = Counter(trial.state.name.lower() for trial in trials)
    own = {running.asked.trial.number for running in worker.running}
    now = datetime.now()
    elsewhere = [
        (now - trial.datetime_start).total_seconds()
        for trial in trials
        if trial.state == TrialState.RUNNING and trial.number not in own and trial.datetime_start is not None
    ]
    here = [seconds_of(running) for running in worker.running]
    done = search.done()
    return Status(
        n_trials=search.n_trials,
        done=done,
        counts=counts,
        best=best_of(trials, worker.objectives),
        seconds_left=time_left(
            [trial.duration.total_seconds() for trial in trials if trial.state in ENDED and trial.duration is not None],
            elapsed=[*here, *elsewhere],
            waiting=max(0, search.n_trials - done - len(here) - len(elsewhere)),
            places=len(worker.slots) + len(elsewhere),
        ),
    )


def best_of(trials: Sequence[FrozenTrial], objectives: Mapping[str, str]) -> list[FrozenTrial]:
    """Return the trials that no other is better than: the first of them, or with several objectives all.

    Args:
        trials: of the study, which is not asked once more: it may not answer now.
        objectives: {name: "max" or "min"}, in the study's order.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values is not None]
    if len(objectives) == 1:
        better = max if "max" in objectives.values() else min
        return [better(complete, key=lambda trial: trial.values[0])] if complete else []
    points = [dict(zip(objectives, trial.values, strict=True)) for trial in complete]
    return [trial for trial, best in zip(complete, pareto_front(points, objectives), strict=True) if best]


def seconds_of(running: Running) -> float:
    """Return how long a running trial has trained."""
    training: Training | None = running.training
    return running.seconds + (0.0 if training is None else time.monotonic() - training.started)


def time_left(durations: Sequence[float], *, elapsed: Sequence[float], waiting: int, places: int) -> float | None:
    """Return in how many seconds the last trial ends if each takes as long as those that have ended did on average.

    Args:
        durations: of the trials that have ended, in seconds.
        elapsed: for how long each running trial has run.
        waiting: trials that have not begun.
        places: trials at a time.

    Returns:
        None if no trial has ended.
    """
    if not durations:
        return None
    mean = fmean(durations)
    ends = [max(0.0, mean - seconds) for seconds in elapsed]
    ends += [0.0] * max(0, places - len(ends))
    heapq.heapify(ends)
    for _ in range(waiting):
        heapq.heapreplace(ends, ends[0] + mean)
    return max(ends, default=0.0)


def ended_trial(worker: Worker, running: Running) -> dict[str, Any] | None:
    """Return the record of a trial that runs no more; None if it has none, or has not ended for good."""
    path = worker.folder / "trials" / running.asked.folder / "trial.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.get("state") in ("complete", "pruned", "failed") else None
