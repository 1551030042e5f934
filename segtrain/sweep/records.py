"""Which trials have ended without their record? The study knows what is to be in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtrain.sweep.history import STATES
from segtrain.sweep.space import by_key
from segtrain.sweep.study import Search
from segtrain.trial_record import read_state, write_record


def complete_records(search: Search, trials: Path, objectives: Sequence[str]) -> None:
    """Write what the study knows, and a worker that died did not come to write.

    Args:
        search: the study.
        trials: the folder of the trials' folders; those of other machines are not in it.
        objectives: their names, in the study's order.
    """
    for trial in search.trials():
        folder = trials / trial.user_attrs.get("folder", f"{trial.number:04}")
        if not folder.is_dir() or not search.has_ended(trial) or read_state(folder) == STATES[trial.state]:
            continue
        write_record(folder, STATES[trial.state], number=trial.number, **_facts(trial, objectives))


def _facts(trial: FrozenTrial, objectives: Sequence[str]) -> dict[str, Any]:
    facts = trial.user_attrs
    if trial.state == TrialState.FAIL:
        reason = facts.get("reason", "lost with its worker, once more than it is tried again")
    else:
        reason = facts.get("reason", "")
    values = dict(zip(objectives, trial.values or (), strict=False))
    return {
        "values": values,
        "parameters": by_key(trial.params),
        "seconds": facts.get("seconds", facts.get("spent", 0.0)),
        **({"reason": reason} if reason else {}),
    }
