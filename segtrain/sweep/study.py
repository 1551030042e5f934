"""The study that workers share: which trials there were, what to try next, and when all is done."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from segtrain.sweep.space import Space, Value

log = logging.getLogger("segtrain")

MOST_REPEATS = 50  # draws of what was tried already, after which nothing new is expected

# heartbeats, and samplers that look at groups of parameters, are what searches on several machines need
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Asked:
    """A trial that is to be run.

    Attributes:
        trial: Optuna's.
        values: of its parameters.
        folder: its name; a trial that is tried again has that of the first try, and goes on there.
        tries: how often it was lost.
    """

    trial: Trial
    values: dict[str, Value]
    folder: str
    tries: int


class Search:
    """A study and how many trials it is to have; several workers, on several machines, may share it.

    A trial that is stopped, or lost with its machine, fails in the study and is asked again under a new number, with
    the same values and folder. So no trial is lost, and the number that was asked for is reached exactly: trials are
    numbered by the storage, and one that finds as many before it is void.

    Args:
        study: Optuna's.
        storage: where it lies, for signs of life; None without.
        space: what is searched.
        n_trials: how many there are to be in all: completed, pruned, or failed by their own fault.
    """

    def __init__(
        self, study: optuna.Study, space: Space, *, n_trials: int, storage: optuna.storages.RDBStorage | None = None
    ) -> None:
        self.study = study
        self.space = space
        self.n_trials = n_trials
        self.storage = storage
        self.exhausted = False

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that stand for themselves: not void, and not tried again under another number."""
        trials = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs["again"] for trial in trials if "again" in trial.user_attrs}
        return [trial for trial in trials if "void" not in trial.user_attrs and trial.number not in again]

    def done(self) -> int:
        """Return how many trials have ended for good."""
        return sum(trial.state.is_finished() for trial in self.trials())

    def ask(self) -> Asked | None:
        """Return a trial to run; None while there are as many as there are to be, or where nothing new is found."""
        if self.storage is not None:
            optuna.storages.fail_stale_trials(self.study)
        waiting = any(trial.state == TrialState.WAITING for trial in self.trials())
        if not waiting and (self.exhausted or len(self.trials()) >= self.n_trials):
            return None
        for _ in range(MOST_REPEATS):
            trial = self.study.ask()
            before = [other for other in self.trials() if other.number < trial.number]
            if len(before) >= self.n_trials:
                self._void(trial, "surplus")
                return None
            values = self.space.draw(partial(suggest, trial))
            if "again" not in trial.user_attrs and any(other.params == values for other in before):
                self._void(trial, "repeat")
                continue
            folder = trial.user_attrs.get("folder", f"{trial.number:04}")
            trial.set_user_attr("folder", folder)
            return Asked(trial, values, folder, trial.user_attrs.get("tries", 0))
        self.exhausted = True
        log.warning(f"nothing new to try in {MOST_REPEATS} draws: the space has few values, and all seem to be tried")
        return None

    def report(self, asked: Asked, epoch: int, score: float) -> bool:
        """Note the score of a validation, and say whether the trial is not worth going on."""
        asked.trial.report(score, epoch)
        return asked.trial.should_prune()

    def complete(self, asked: Asked, values: Sequence[float], facts: Mapping[str, Any]) -> None:
        """Note the objectives of a trial."""
        self._note(asked, facts)
        self.study.tell(asked.trial, list(values))

    def prune(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        """Note that a trial was ended early."""
        self._note(asked, facts)
        self.study.tell(asked.trial, state=TrialState.PRUNED)

    def fail(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        """Note that a trial failed by its own fault, or too often."""
        self._note(asked, facts)
        self.study.tell(asked.trial, state=TrialState.FAIL)

    def try_again(self, asked: Asked, facts: Mapping[str, Any], *, lost: bool) -> None:
        """Note that a trial was stopped or lost, and ask it again later."""
        self._note(asked, facts)
        # first this: a worker that dies in between leaves a trial too many, which is void, and none too few
        enqueue_again(self.study, asked.trial.number, asked.values, folder=asked.folder, tries=asked.tries + lost)
        self.study.tell(asked.trial, state=TrialState.FAIL)

    def beat(self, asked: Asked) -> None:
        """Say that a trial's worker is alive."""
        if self.storage is not None:
            self.storage.record_heartbeat(asked.trial._trial_id)

    def _note(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        for name, value in facts.items():
            asked.trial.set_user_attr(name, value)

    def _void(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr("void", reason)
        self.study.tell(trial, state=TrialState.FAIL)


def enqueue_again(
    study: optuna.Study, number: int, values: Mapping[str, Value], *, folder: str | None, tries: int
) -> None:
    """Ask a trial again, with its values and in its folder.

    Args:
        study: Optuna's.
        number: of the trial.
        values: of its parameters; those that it had not drawn yet are drawn anew.
        folder: its name; None if it had none yet.
        tries: how often it was lost.
    """
    facts: dict[str, Any] = {"again": number, "tries": tries}
    study.enqueue_trial(dict(values), user_attrs=facts if folder is None else {**facts, "folder": folder})


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Value:
    """Return the sampler's value of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return str(trial.suggest_categorical(key, distribution.choices))
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
