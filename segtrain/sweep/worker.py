"""The worker of a search: fills its slots with trials, watches them, and says how each one ended."""

import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from segtrain.errors import UserError
from segtrain.run_folder import write_text
from segtrain.sweep.slots import Slot
from segtrain.sweep.storage import HEARTBEAT
from segtrain.sweep.study import Asked, Search
from segtrain.sweep.training import Ending, Training

log = logging.getLogger("segtrain")

POLL = 0.2  # seconds between two looks at the trials
SAME_ERRORS = 3  # in a row, after which the search stops
PRUNED = "pruned"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass
class Running:
    """A trial in its slot: one training after the other, a seed each.

    Attributes:
        asked: the trial.
        slot: where it trains.
        training: the running one.
        scores: the objectives of the trainings that are complete, by seed.
        seconds: how long all of them took.
        reported: epochs whose score the study has.
    """

    asked: Asked
    slot: Slot
    training: Training
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    reported: int = 0


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
        self.running: list[Running] = []
        self.errors: list[str] = []  # of the trials that failed last, one after the other
        self.interrupted = ""
        self.beaten = 0.0

    def run(self) -> None:
        """Run trials until all are done, or a signal ends the search.

        Raises:
            UserError: if the same error ended several trials in a row.
        """
        before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }
        try:
            while True:
                self._fill()
                if not self.running and (self.interrupted or self._over()):
                    return
                time.sleep(POLL)
                self._look()
        finally:
            for running in self.running:  # only after an error of ours
                running.training.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait for the trials to save
        self.interrupted = signal.Signals(number).name

    def _over(self) -> bool:
        """Say whether no trial is left, here or elsewhere: those of other workers may still be lost."""
        search = self.search
        return search.done() >= search.n_trials or (search.exhausted and search.done() >= len(search.trials()))

    def _fill(self) -> None:
        """Start a trial in every free slot."""
        taken = {running.slot.number for running in self.running}
        for slot in self.slots:
            if self.interrupted or slot.number in taken:
                continue
            asked = self.search.ask()
            if asked is None:
                return
            running = Running(asked, slot, self._start(asked, slot, self.seeds[0]))
            self.running.append(running)
            self._write(running, "running")

    def _start(self, asked: Asked, slot: Slot, seed: int) -> Training:
        own = [f"seed={seed}", "test=false", *self.search.space.overrides(asked.values)]
        return Training(
            self.trial_folder(asked.folder, seed),
            [*self.overrides, *own],
            slot=slot,
            processes=max(1, len(slot.gpus)),
        )

    def trial_folder(self, name: str, seed: int) -> Path:
        """Return the run folder of one training of a trial."""
        trial = self.folder / "trials" / name
        return trial if len(self.seeds) == 1 else trial / f"seed-{seed}"

    def _look(self) -> None:
        """See what the trials are doing, and note what has ended."""
        if time.monotonic() - self.beaten > HEARTBEAT:
            self.beaten = time.monotonic()
            for running in self.running:
                self.search.beat(running.asked)
        for running in list(self.running):
            self._report(running)
            if self.interrupted and not running.training.asked:
                running.training.ask_to_stop(self.interrupted)
            if (ending := running.training.ended()) is not None:
                self._report(running)
                self._end(running, ending)
        self.show(self)

    def _report(self, running: Running) -> None:
        """Give the study the scores of the first seed's validations, and end a trial that is not worth going on."""
        if len(self.objectives) > 1 or running.scores or running.training.asked:
            return
        scores = running.training.scores(next(iter(self.objectives)))
        for epoch, score in scores[running.reported :]:
            running.reported += 1
            if self.search.report(running.asked, epoch, score):
                running.training.ask_to_stop(PRUNED)
                return

    def _end(self, running: Running, ending: Ending) -> None:
        running.seconds += time.monotonic() - running.training.started
        if ending.end == "complete" and running.training.asked != PRUNED:
            self._complete_seed(running)
            return
        self.running.remove(running)
        facts = {"reason": ending.reason, "seconds": round(running.seconds, 1), "tail": ending.tail}
        asked = running.asked
        if running.training.asked == PRUNED:
            self.search.prune(asked, facts)
            self._write(running, "pruned", **facts)
        elif ending.end == "stopped" or (ending.end == "lost" and asked.tries < self.retries):
            self.search.try_again(asked, facts, lost=ending.end == "lost")
            self._write(running, "stopped" if ending.end == "stopped" else "lost", **facts)
            log.info(f"trial {asked.folder} {ending.reason}; it is gone on with later")
        else:
            self.search.fail(asked, facts)
            self._write(running, "failed", **facts)
            log.warning(f"trial {asked.folder} failed: {ending.reason.splitlines()[0]}")
            self._count_error(ending.reason)

    def _complete_seed(self, running: Running) -> None:
        """Note the scores of a training that is done; start the next seed's, or end the trial with their means."""
        metrics = running.training.metrics()
        missing = [name for name in self.objectives if name not in metrics]
        if missing:
            self.running.remove(running)
            facts = {"reason": f"metrics.json has no {missing[0]}", "seconds": round(running.seconds, 1)}
            self.search.fail(running.asked, facts)
            self._write(running, "failed", **facts)
            self._count_error(str(facts["reason"]))
            return
        running.scores.append({name: metrics[name] for name in self.objectives})
        if len(running.scores) < len(self.seeds) and not self.interrupted:
            running.training = self._start(running.asked, running.slot, self.seeds[len(running.scores)])
            return
        self.running.remove(running)
        if len(running.scores) < len(self.seeds):
            self.search.try_again(running.asked, {"reason": self.interrupted}, lost=False)
            self._write(running, "stopped", reason=self.interrupted)
            return
        self.errors = []
        means = [sum(scores[name] for scores in running.scores) / len(self.seeds) for name in self.objectives]
        facts = {"seconds": round(running.seconds, 1)}
        self.search.complete(running.asked, means, facts)
        self._write(running, "complete", values=dict(zip(self.objectives, means, strict=True)), **facts)

    def _count_error(self, reason: str) -> None:
        self.errors.append(reason)
        last = self.errors[-SAME_ERRORS:]
        if len(last) == SAME_ERRORS and len(Counter(last)) == 1:
            self.interrupted = "the same error again and again"
            raise UserError(f"{SAME_ERRORS} trials in a row ended with the same error, so the search stops: {reason}")

    def _write(self, running: Running, state: str, **facts: Any) -> None:
        """Write trial.json beside the run folders, by which `segtrain results` knows the trial."""
        trial = {"number": running.asked.trial.number, "state": state, "values": {}, **facts}
        trial["parameters"] = running.asked.values
        trial.pop("tail", None)
        folder = self.folder / "trials" / running.asked.folder
        write_text(folder / "trial.json", json.dumps(trial, indent=2) + "\n")
