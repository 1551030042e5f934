"""What do the running trials do, and how has each one ended? Notes it in the study and in trial.json."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from segtrain.sweep.lost import HEARTBEAT
from segtrain.sweep.patience import TakenError
from segtrain.sweep.run_progress import read_scores, stamp, was_last_validation
from segtrain.sweep.running import Running, TrialError
from segtrain.sweep.same_errors import SAME_ERRORS, SameErrors
from segtrain.sweep.study import Search
from segtrain.sweep.training import Ending

log = logging.getLogger("segtrain")

POLL = 0.2  # seconds between two looks at the trials
PRUNED, TAKEN = "pruned", "taken over by another worker"


class Watch:
    """Looks after the running trials of a worker.

    Args:
        search: the study.
        objectives: names in metrics.json; the first is what pruning looks at.
        retries: how often a training that was killed is started again.
    """

    def __init__(self, search: Search, *, objectives: Sequence[str], retries: int) -> None:
        self.search = search
        self.objectives = list(objectives)
        self.retries = retries
        self.running: list[Running] = []
        self.errors = SameErrors()
        self.error = ""  # the sentence of the same error again and again
        self.stopping = ""  # why the running trials are to end
        self.beaten = 0.0

    def begin(self, running: Running) -> None:
        """Begin a trial."""
        self.running.append(running)
        running.write("running")
        self._unless_taken(running, self._go_on)

    def _unless_taken(self, running: Running, step: Callable[[Running], None]) -> None:
        """Do something with a trial, and leave it once another worker has taken this one for dead."""
        try:
            step(running)
        except TakenError:
            log.warning(f"trial {running.asked.folder} is {TAKEN}, as this one was silent for long; it ends here")
            running.taken = True
            self.search.drop(running.asked)
            if running.training is None or running.training.ended() is not None:
                self.running = [other for other in self.running if other is not running]
            else:
                running.training.ask_to_stop(TAKEN)

    def look(self) -> None:
        """See what the trials are doing, and note what has ended."""
        if time.monotonic() - self.beaten > HEARTBEAT:
            self.beaten = time.monotonic()
            for running in list(self.running):
                if not running.taken:
                    self._unless_taken(running, lambda running: self.search.beat(running.asked))
        for running in list(self.running):
            self._unless_taken(running, self._look_at)

    def _look_at(self, running: Running) -> None:
        training = running.training
        assert training is not None
        self._report(running)
        if self.stopping and not training.asked:
            training.ask_to_stop(self.stopping)
        if (ending := training.ended()) is not None:
            self._end(running, ending)

    def _report(self, running: Running) -> None:
        """Give the study the scores of the first seed's validations, and end a trial that is not worth going on."""
        if len(self.objectives) > 1 or running.taken:
            return
        folder = running.training_folder(running.seeds[0])
        if (seen := stamp(folder / "metrics.csv")) == running.seen:
            return
        for epoch, score in read_scores(folder, self.objectives[0]):
            if epoch <= running.reported:
                continue  # of a run that repeats what lay behind its checkpoint
            running.reported = epoch
            hopeless = self.search.report(running.asked, epoch, score)
            training = running.training
            if hopeless and training is not None and not running.scores and not (training.asked or training.ending):
                if len(running.seeds) == 1 and was_last_validation(folder):
                    continue  # nothing would be saved, and its score be lost
                training.ask_to_stop(PRUNED)
                return
        running.seen = seen

    def _go_on(self, running: Running) -> None:
        """Begin the next training of a trial, or note the means of all."""
        try:
            if running.go_on():
                return
        except TrialError as error:
            self._fail(running, {"reason": str(error), "seconds": round(running.seconds, 1)})
            return
        self._report(running)
        self.errors.none()
        self.running.remove(running)
        means = running.means()
        facts: dict[str, Any] = {"seconds": round(running.seconds, 1)}
        self.search.complete(running.asked, means, facts)
        running.write("complete", values=means, **facts)

    def _end(self, running: Running, ending: Ending) -> None:
        """Note how a training ended."""
        training, asked = running.training, running.asked
        assert training is not None
        running.ended()
        if running.taken:
            self.running.remove(running)
            return
        self._report(running)
        facts: dict[str, Any] = {
            "reason": running.of_seed(ending.reason),
            "seconds": round(running.seconds, 1),
            "tail": ending.tail,
        }
        last = ending.end == "complete" and len(running.scores) + 1 == len(running.seeds)
        if training.asked == PRUNED and not last:
            self.errors.none()
            self.running.remove(running)
            # without a reason: a worker that dies while it tells the study leaves a lost trial, and no failed one
            self.search.prune(asked, {name: fact for name, fact in facts.items() if name != "reason"})
            running.write("pruned", **facts)
        elif last or (ending.end == "complete" and not self.stopping):
            self._go_on(running)
        elif ending.end == "failed" or (ending.end == "lost" and asked.tries >= self.retries):
            self._fail(running, facts)
        else:
            self.running.remove(running)
            lost = ending.end == "lost"
            facts["reason"] = facts["reason"] or self.stopping  # between two seeds
            self.search.try_again(asked, facts, lost=lost)
            running.write("lost" if lost else "stopped", **facts)
            log.info(f"trial {asked.folder}: {facts['reason']}; it is gone on with later")

    def _fail(self, running: Running, facts: dict[str, Any]) -> None:
        self.running.remove(running)
        self.search.fail(running.asked, facts)
        running.write("failed", **facts)
        log.warning(f"trial {running.asked.folder} failed: {facts['reason'].splitlines()[0]}")
        if self.errors.add(facts["reason"], running.folder) and not self.error:
            self.error = f"{SAME_ERRORS} trials in a row ended with the same error: {facts['reason']}"
            log.error(self.error)

    def save(self, reason: str) -> None:
        """Have the running trials save where the study cannot be told of them."""
        for running in self.running:
            if running.training is not None:
                running.training.ask_to_stop(reason)
        for running in self.running:
            running.write("stopped", reason=reason)
        while any(running.training is not None and running.training.ended() is None for running in self.running):
            time.sleep(POLL)
        self.running = []

    def kill(self) -> None:
        """End the running trials at once; they are tried again."""
        for running in self.running:
            if running.training is not None:
                running.training.kill()
