"""Which trials have lost their worker, and how are they asked again?"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtrain.sweep.presence import is_dead
from segtrain.sweep.ranges import Value

log = logging.getLogger("segtrain")

HEARTBEAT = 20  # seconds between two signs of life of a trial's worker
GRACE = 120  # seconds without one, after which a worker on another machine is dead


def standing(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that stand for themselves: not void, and not tried again under another number.

    Two workers may have asked one again at the same time: the first of the two stands.
    """
    again: dict[int, int] = {}
    for trial in trials:
        if "again" in trial.user_attrs:
            again.setdefault(trial.user_attrs["again"], trial.number)
    return [
        trial
        for trial in trials
        if "void" not in trial.user_attrs
        and trial.number not in again
        and ("again" not in trial.user_attrs or again[trial.user_attrs["again"]] == trial.number)
    ]


def position(trial: FrozenTrial) -> int:
    """Return the number under which a trial was tried first: its place among those that there are to be."""
    return int(trial.user_attrs.get("root", trial.number))


def is_lost(trial: FrozenTrial) -> bool:
    """Say whether a trial has ended without a word of its worker."""
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def enqueue_again(
    study: optuna.Study,
    trial: FrozenTrial,
    *,
    values: Mapping[str, Value],
    folder: str | None,
    tries: int,
    spent: float = 0.0,
) -> None:
    """Ask a trial again, with its values and in its folder, unless that is done.

    Args:
        study: Optuna's.
        trial: which one.
        values: of its parameters; those that it had not drawn yet are drawn anew.
        folder: its name; None if it had none yet.
        tries: how often it was lost.
        spent: seconds that it has trained.
    """
    if any(other.user_attrs.get("again") == trial.number for other in study.get_trials(deepcopy=False)):
        return
    facts: dict[str, Any] = {"again": trial.number, "root": position(trial), "tries": tries, "spent": spent}
    facts["values"] = dict(values)  # by which others see what it will try
    study.enqueue_trial(dict(values), user_attrs=facts if folder is None else {**facts, "folder": folder})


@dataclass(frozen=True)
class Lost:
    """A trial whose worker is dead.

    Attributes:
        number: in the study.
        values: of its parameters.
        folder: its name; None if it had none yet.
    """

    number: int
    values: dict[str, Value]
    folder: str | None


class Lookout:
    """Looks for trials whose worker is dead.

    A worker of this machine is dead when its lock is free, and at once. One of another machine is after `GRACE`
    seconds without a heartbeat, and so is one that died before it had put its mark on the trial.

    Args:
        study: Optuna's.
        storage: which has the heartbeats; None without.
        clock: the time in seconds.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: optuna.storages.RDBStorage | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study = study
        self.storage = storage
        self.clock = clock
        self.unmarked: dict[int, float] = {}  # when trials without a mark were first seen, by number

    def take_over(
        self, held: Collection[int], own: Mapping[str, str], *, retries: int, heartbeats: bool = True
    ) -> list[Lost]:
        """Ask the lost trials again that were not lost too often, and return all that were.

        Args:
            held: numbers of the trials that this process runs.
            own: the mark of this process.
            retries: how often a trial is tried again.
            heartbeats: whether workers could send any; without, a silent one is not dead.
        """
        began = self.clock()
        silent = self._silent() if heartbeats else set()
        if self.clock() - began > HEARTBEAT:  # the storage was silent itself
            silent = set()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in held and self._is_dead(trial, own, silent=trial.number in silent):
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another was faster
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        lost = []
        for trial in standing(self.study.get_trials(deepcopy=False)):
            tries = trial.user_attrs.get("tries", 0) + 1
            if not is_lost(trial) or tries > retries:
                continue
            facts = trial.user_attrs
            folder, spent = facts.get("folder"), facts.get("spent", 0.0)
            log.warning(f"trial {folder or trial.number} is lost with its worker, and is tried again")
            enqueue_again(self.study, trial, values=trial.params, folder=folder, tries=tries, spent=spent)
            lost.append(Lost(trial.number, dict(trial.params), folder))
        return lost

    def _silent(self) -> set[int]:
        """Return the numbers of the trials without a heartbeat for `GRACE` seconds."""
        if self.storage is None:
            return set()
        # not Optuna's `fail_stale_trials`: it fails those too whose workers hold their locks
        ids = self.storage._get_stale_trial_ids(self.study._study_id)
        return {self.storage.get_trial(trial_id).number for trial_id in ids}

    def _is_dead(self, trial: FrozenTrial, own: Mapping[str, str], *, silent: bool) -> bool:
        if "void" in trial.user_attrs:
            return True  # its worker died when it had nothing more to do with it
        mark = trial.user_attrs.get("worker")
        if mark:
            if mark == own:  # this process asked it, and had no answer of the storage
                return True
            dead = is_dead(mark)
            return silent if dead is None else dead
        return silent or self.clock() - self.unmarked.setdefault(trial.number, self.clock()) > GRACE
