"""trial.json: what has become of a trial, beside its run folders, for those who have no study at hand."""

import json
import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtrain.run_folder import write_text
from segtrain.sweep.history import STATES
from segtrain.sweep.ranges import Value
from segtrain.sweep.study import Search

log = logging.getLogger("segtrain")


def write_record(
    folder: Path,
    state: str,
    *,
    number: int,
    values: Mapping[str, float],
    parameters: Mapping[str, Value],
    **facts: Any,
) -> None:
    """Write the record of a trial.

    Args:
        folder: of the trial.
        state: running, complete, pruned, failed, lost or stopped.
        number: in the study.
        values: {objective: mean over its seeds}, of a complete trial.
        parameters: what it was trained with.
        facts: reason, seconds, tries.
    """
    record = {"number": number, "state": state, "values": dict(values), **facts, "host": socket.gethostname()}
    record["parameters"] = dict(parameters)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "trial.json", json.dumps(record, indent=2) + "\n")
    except OSError as error:  # the study has it, and the next call of the command writes it
        log.warning(f"cannot write {folder / 'trial.json'} ({error.strerror})")


def read_state(folder: Path) -> str | None:
    """Return the state in a trial's record; None if there is none that reads."""
    try:
        state = json.loads((folder / "trial.json").read_text(encoding="utf-8")).get("state")
    except (OSError, ValueError):
        return None
    return str(state)


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
        "parameters": trial.params,
        "seconds": facts.get("seconds", facts.get("spent", 0.0)),
        **({"reason": reason} if reason else {}),
    }
