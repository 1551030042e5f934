"""The study that workers share: which trials there were, what to try next, and when all is done."""

import contextlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from segtrain.sweep.lost import GRACE, Lookout, Lost, enqueue_again, is_lost, position, standing
from segtrain.sweep.patience import Patience, TakenError, patiently
from segtrain.sweep.ranges import Value
from segtrain.sweep.samplers import suggest
from segtrain.sweep.space import Space
from segtrain.sweep.tried import Tried

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
        seconds: how long its earlier tries have trained, as far as that is known.
    """

    trial: Trial
    values: dict[str, Value]
    folder: str
    tries: int
    seconds: float = 0.0


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
        retries: how often a trial that is lost is tried again.
        patience: with a storage that does not answer.
        id: of the study, by which a folder's trials are known to be its own.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        *,
        n_trials: int,
        storage: optuna.storages.RDBStorage | None = None,
        retries: int = 2,
        patience: Patience | None = None,
        id: str = "",
    ) -> None:
        self.study = study
        self.space = space
        self.n_trials = n_trials
        self.storage = storage
        self.retries = retries
        self.patience = patience or Patience("the study")
        self.id = id
        self.exhausted = False
        self.tried = Tried(study, space)
        self.worker: Mapping[str, str] = {}  # the mark of this one, see `Presence`
        self.job = ""  # of SLURM, in which this one runs: by it its trials are found if the job is lost
        self.held: set[int] = set()  # numbers of the trials that this process runs
        self.lookout = Lookout(study, storage)

    @patiently
    def trials(self) -> list[FrozenTrial]:
        """Return the trials that stand for themselves: not void, and not tried again under another number."""
        return standing(self.study.get_trials(deepcopy=False))

    def done(self) -> int:
        """Return how many trials have ended for good."""
        return sum(self.has_ended(trial) for trial in self.trials())

    def has_ended(self, trial: FrozenTrial) -> bool:
        """Say whether a trial that stands for itself has ended for good."""
        lost = is_lost(trial) and trial.user_attrs.get("tries", 0) < self.retries
        return trial.state.is_finished() and not lost

    def elsewhere(self) -> list[FrozenTrial]:
        """Return the trials that other workers run."""
        return [t for t in self.trials() if t.state == TrialState.RUNNING and t.number not in self.held]

    @patiently
    def take_over(self) -> list[Lost]:
        """Ask the trials again whose workers are dead, and return them."""
        # after its silence the storage has no heartbeats of workers that live, and gets them one after the other
        heartbeats = self.patience.has_answered_for(GRACE)
        return self.lookout.take_over(self.held, self.worker, retries=self.retries, heartbeats=heartbeats)

    @patiently
    def give_up(self, job: str, *, before: int | None = None) -> None:
        """Note that the trials which a SLURM job was running are lost.

        Args:
            job: SLURM's id.
            before: SLURM has run the job again so often, and what it has begun since is its own; None if it is over.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            name, _, restarts = str(trial.user_attrs.get("job", "")).partition(".")
            if name == job and (before is None or int(restarts) < before):
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # its worker was faster
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    @patiently
    def ask(self) -> Asked | None:
        """Return a trial to run; None while there are as many as there are to be, or where nothing new is found."""
        trials = self.trials()
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and (self.exhausted or len(trials) >= self.n_trials):
            return None
        for _ in range(MOST_REPEATS):
            if not waiting and self.tried.everything():
                break
            trial = self.study.ask()
            if (asked := self._accept(trial)) is not None:
                return asked
            if trial.user_attrs["void"] == "surplus":
                return None
            waiting = self.tried.enqueue_new()
        else:
            log.warning(
                f"nothing new to try in {MOST_REPEATS} draws, so the search ends before its {self.n_trials} trials"
            )
        self.exhausted = True
        return None

    def _accept(self, trial: Trial) -> Asked | None:
        """Draw the values of a new trial, unless there are enough before it; None if it is void."""
        attributes = trial.user_attrs
        every = self.study.get_trials(deepcopy=False)
        if all(other.number != trial.number for other in standing(every)):
            return self._void(trial, "repeat")  # it was asked again twice
        mine = attributes.get("root", trial.number)
        if sum(position(other) < mine for other in standing(every)) >= self.n_trials:
            return self._void(trial, "surplus")
        self._beat(trial)
        values = self.space.draw(partial(suggest, trial))
        if "folder" not in attributes and values in self.tried.before(mine, but=trial.number):
            return self._void(trial, "repeat")
        folder = attributes.get("folder", f"{trial.number:04}")
        trial.set_user_attr("folder", folder)
        if self.job:
            trial.set_user_attr("job", self.job)
        trial.set_user_attr("worker", dict(self.worker))  # the last: from now on it is waited for as long as we live
        self.held.add(trial.number)
        return Asked(trial, values, folder, attributes.get("tries", 0), attributes.get("spent", 0.0))

    @patiently
    def report(self, asked: Asked, epoch: int, score: float) -> bool:
        """Note the score of a validation, and say whether the trial is not worth going on."""
        asked.trial.report(score, epoch)
        return asked.trial.should_prune()

    def complete(self, asked: Asked, values: Sequence[float], facts: Mapping[str, Any]) -> None:
        """Note the objectives of a trial."""
        self._end(asked, facts, TrialState.COMPLETE, values)

    def prune(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        """Note that a trial was ended early."""
        self._end(asked, facts, TrialState.PRUNED)

    def fail(self, asked: Asked, facts: Mapping[str, Any]) -> None:
        """Note that a trial failed by its own fault, or too often; the facts have the reason."""
        self._end(asked, facts, TrialState.FAIL)

    def try_again(self, asked: Asked, facts: Mapping[str, Any], *, lost: bool) -> None:
        """Note that a trial was stopped or lost, and ask it again later."""
        self._enqueue(asked, asked.tries + lost, facts.get("seconds", asked.seconds))
        self._end(asked, facts, TrialState.FAIL)

    @patiently
    def _enqueue(self, asked: Asked, tries: int, seconds: float) -> None:
        # before it fails: a worker that dies in between leaves a trial that is run by nobody, and none too few
        trial = self._frozen(asked)
        if trial.state.is_finished():
            raise TakenError
        enqueue_again(self.study, trial, values=asked.values, folder=asked.folder, tries=tries, spent=seconds)

    @patiently
    def _end(
        self, asked: Asked, facts: Mapping[str, Any], state: TrialState, values: Sequence[float] | None = None
    ) -> None:
        if not self._is_told(asked, facts, state):  # by a call whose answer was lost
            for name, value in facts.items():
                asked.trial.set_user_attr(name, value)
            if values is None:
                self.study.tell(asked.trial, state=state, skip_if_finished=True)
            else:
                self.study.tell(asked.trial, list(values), skip_if_finished=True)
        self.held.discard(asked.trial.number)

    def _is_told(self, asked: Asked, facts: Mapping[str, Any], state: TrialState) -> bool:
        trial = self._frozen(asked)
        return trial.state == state and facts.items() <= trial.user_attrs.items()

    def _frozen(self, asked: Asked) -> FrozenTrial:
        number = asked.trial.number
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def drop(self, asked: Asked) -> None:
        """Leave a trial to whoever has taken it over."""
        self.held.discard(asked.trial.number)

    @patiently
    def beat(self, asked: Asked) -> None:
        """Say that a trial's worker is alive.

        Raises:
            TakenError: if the study has it as ended: its worker was silent for too long.
        """
        self._beat(asked.trial)
        if self._frozen(asked).state.is_finished():
            raise TakenError

    def _beat(self, trial: Trial) -> None:
        if self.storage is not None:
            self.storage.record_heartbeat(trial._trial_id)

    def _void(self, trial: Trial, reason: str) -> Asked | None:
        """Have a trial stand for nothing."""
        trial.set_user_attr("void", reason)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # by a worker that saw it
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return None
