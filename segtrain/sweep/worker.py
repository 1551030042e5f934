"""The worker of a search: fills its slots with trials, watches them, and says how each one ended."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from optuna.trial import TrialState

from segtrain.errors import UserError
from segtrain.lifeline import Lifeline
from segtrain.sweep.ending import STOP_SIGNALS, End, how_it_ended
from segtrain.sweep.lost import GRACE, HEARTBEAT
from segtrain.sweep.patience import TakenError
from segtrain.sweep.presence import Presence, is_dead
from segtrain.sweep.records import complete_records
from segtrain.sweep.running import Running
from segtrain.sweep.slots import Slot
from segtrain.sweep.space import by_key
from segtrain.sweep.study import Asked, Search
from segtrain.sweep.watch import POLL, Watch
from segtrain.trial_record import write_record

log = logging.getLogger("segtrain")

IDLE = 2.0  # seconds after which a study that had nothing to try is asked again
LAST_PATIENCE = 10.0  # seconds for a storage that does not answer when the search is to end


class Worker:
    """Runs the trials of a search on this machine until there are as many as there are to be.

    Args:
        search: the study.
        folder: of the search; each trial has one in it.
        overrides: of every trial's train command.
        slots: where trials train.
        seeds: trainings of a trial; its objectives are their means.
        objectives: {name in metrics.json: "max" or "min"}; the first is what pruning looks at.
        retries: how often a training that was killed is started again.
        show: called after every look at the trials.
    """

    def __init__(
        self,
        search: Search,
        folder: Path,
        *,
        overrides: Sequence[str],
        slots: Sequence[Slot],
        seeds: Sequence[int],
        objectives: Mapping[str, str],
        retries: int,
        show: Callable[["Worker"], None] = lambda worker: None,
    ) -> None:
        self.search = search
        self.folder = folder
        self.overrides = list(overrides)
        self.slots = list(slots)
        self.seeds = list(seeds)
        self.objectives = dict(objectives)
        self.retries = retries
        self.show = show
        self.watch = Watch(search, objectives=list(objectives), retries=retries)
        self.interrupted = ""  # the name of the signal
        self.killed = False
        self.lifeline = Lifeline()
        self.next_ask = 0.0
        self.idle_since: float | None = None

    @property
    def running(self) -> list[Running]:
        """The trials in the slots."""
        return self.watch.running

    @property
    def stopping(self) -> str:
        """Why the running trials are to end; empty while they are not."""
        return self.interrupted or (self.watch.error and "the search was stopped")

    def run(self) -> End:
        """Run trials until all are done, a signal ends the search, or trials fail by the same error again and again.

        Raises:
            UserError: if the storage does not answer any more; the running trials are saved.
        """
        presence = Presence(self.folder, self.search.held)
        self.search.worker = presence.mark()
        with self._signals():
            try:
                self._complete_records()
                self._run_trials()
                self._complete_records()
                presence.forget_dead([t.user_attrs.get("worker", {}).get("lock") for t in self.search.elsewhere()])
            except Exception as error:
                said = "the storage did not answer" if isinstance(error, UserError) else "the search's worker failed"
                self.watch.save(said)
                raise
            finally:
                self.watch.kill()  # only after Ctrl-C again and again
                self.lifeline.cut()
                presence.leave()
        return how_it_ended(self.interrupted, self.watch.error)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.killed and number == signal.SIGINT:
            raise KeyboardInterrupt  # a third Ctrl-C waits for nothing
        self.search.patience.seconds = LAST_PATIENCE
        if self.interrupted and number == signal.SIGINT:
            self.killed = True  # a second one does not wait for the trials to save
            self.search.patience.seconds = 0
            self.watch.kill()
        self.interrupted = self.interrupted or signal.Signals(number).name

    def _complete_records(self) -> None:
        complete_records(self.search, self.folder / "trials", list(self.objectives))

    def _run_trials(self) -> None:
        while True:
            found = self._fill()
            if not self.running and (self.stopping or (found is None and self._over())):
                return
            time.sleep(POLL)
            count = len(self.running)
            self.watch.stopping = self.stopping
            if self.killed:
                self.watch.kill()  # what was being begun
            self.watch.look()
            if len(self.running) < count:
                self.next_ask = 0.0
            self.show(self)

    def _over(self) -> bool:
        """Say whether nothing is left to do here: what other workers train is theirs while they are alive."""
        trials = self.search.trials()
        room = not self.search.exhausted and len(trials) < self.search.n_trials
        left = [trial for trial in trials if not self.search.has_ended(trial)]
        done = len(trials) - len(left)
        if done >= self.search.n_trials or not (left or room):
            return True
        if room or any(trial.state != TrialState.RUNNING for trial in left):
            return False
        unknown = [trial for trial in left if is_dead(trial.user_attrs.get("worker")) is not False]
        self.idle_since = self.idle_since or time.monotonic()
        enough = GRACE + 2 * HEARTBEAT  # seconds in which those of dead workers are taken over
        waited = time.monotonic() - self.idle_since >= enough and self.search.patience.has_answered_for(enough)
        if unknown and not waited:
            return False
        log.info(
            f"{len(left)} trials are still trained by other workers, which are alive, and nothing is left for this "
            "one; should one be lost with its worker, the same command goes on with it"
        )
        return True

    def _fill(self) -> bool | None:
        """Start a trial in every free slot; return None where the study was asked and had none left."""
        taken = {running.slot.number for running in self.running}
        free = [slot for slot in self.slots if slot.number not in taken]
        if self.stopping or not free or time.monotonic() < self.next_ask:
            return False
        try:
            self.take_over()
            for slot in free:
                if (asked := self.search.ask()) is None:
                    self.next_ask = time.monotonic() + IDLE
                    return None
                self.idle_since = None
                self._begin(asked, slot)
        except TakenError:  # the storage was silent while it was drawn
            return False
        return True

    def take_over(self) -> None:
        """Ask the trials again whose workers are dead, and note it in their records."""
        for lost in self.search.take_over():
            if lost.folder is not None and (folder := self.folder / "trials" / lost.folder).is_dir():
                why = "lost with its worker"
                write_record(folder, "lost", number=lost.number, values={}, parameters=by_key(lost.values), reason=why)

    def _begin(self, asked: Asked, slot: Slot) -> None:
        folder = self.folder / "trials" / asked.folder
        if "again" in asked.trial.user_attrs and not folder.is_dir():  # on a machine whose files are not here
            log.info(f"trial {asked.folder} was begun elsewhere: its folder is not here, so it starts anew")
        running = Running(
            asked,
            slot,
            folder,
            seeds=self.seeds,
            objectives=list(self.objectives),
            overrides=[*self.overrides, *self.search.space.overrides(asked.values)],
            lifeline=self.lifeline,
            seconds=asked.seconds,
        )
        self.watch.begin(running)
