"""How did a search go: every trial, its scores, and the best until then?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtrain.sweep.space import by_key

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Past:
    """A trial of the study.

    Attributes:
        number: in the study; one that was tried again has its last.
        folder: its name below trials/.
        state: complete, pruned, failed, running or waiting.
        parameters: of the trial.
        values: {objective: value}; of a complete trial alone.
        last: the last score that it reported, and the epoch; None without.
        best: {objective: the best of the complete trials until then}.
        facts: reason, seconds, host and the like.
    """

    number: int
    folder: str
    state: str
    parameters: Mapping[str, Any]
    values: Mapping[str, float]
    last: tuple[int, float] | None
    best: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)


def history(trials: Sequence[FrozenTrial], objectives: Mapping[str, str]) -> list[Past]:
    """Return the trials in the order of their numbers.

    Args:
        trials: those that stand for themselves.
        objectives: {name: "max" or "min"}, in the study's order.
    """
    best: dict[str, float] = {}
    found = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        complete = trial.state == TrialState.COMPLETE and trial.values is not None
        values = dict(zip(objectives, trial.values, strict=True)) if complete else {}
        for name, value in values.items():
            better = max if objectives[name] == "max" else min
            if math.isfinite(value):
                best[name] = better(best.get(name, value), value)
        reported = trial.intermediate_values
        last = (max(reported), reported[max(reported)]) if reported else None
        folder = trial.user_attrs.get("folder") or f"{trial.number:04}"
        found.append(
            Past(
                trial.number,
                str(folder),
                STATES[trial.state],
                by_key(trial.params),
                values,
                last,
                dict(best),
                trial.user_attrs,
            )
        )
    return found


def history_table(past: Sequence[Past], objectives: Mapping[str, str]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of history.csv."""
    columns = [column for name in objectives for column in (name, f"best {name}")]
    header = ["trial", "state", *columns, "last epoch", "last score"]
    rows = [
        [trial.number, trial.state]
        + [cell for name in objectives for cell in (trial.values.get(name), trial.best.get(name))]
        + [None if trial.last is None else cell for cell in (trial.last or (0, 0))]
        for trial in past
    ]
    return header, rows


def trials_table(past: Sequence[Past], objectives: Mapping[str, str]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of trials.csv: all trials of the study, wherever they were trained."""
    parameters = list(dict.fromkeys(name for trial in past for name in trial.parameters))
    facts = ("seconds", "tries", "host", "reason")
    header = ["trial", "folder", "state", *parameters, *objectives, *facts]
    rows = [
        [trial.number, trial.folder, trial.state]
        + [trial.parameters.get(name) for name in parameters]
        + [trial.values.get(name) for name in objectives]
        + [_cell(trial.facts.get(name)) for name in facts]
        for trial in past
    ]
    return header, rows


def _cell(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value
