"""A trial in its slot: one training after the other, a seed each, of which those that are complete are not repeated."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtrain.errors import full_disk
from segtrain.lifeline import Lifeline
from segtrain.metrics_file import read_metrics
from segtrain.run_lock import is_held
from segtrain.sweep.slots import Slot
from segtrain.sweep.space import by_key
from segtrain.sweep.study import Asked
from segtrain.sweep.training import Training, is_complete
from segtrain.trial_record import write_record


class TrialError(Exception):
    """A trial that cannot go on; the message says why."""


@dataclass
class Running:
    """A trial that trains.

    Attributes:
        asked: the trial.
        slot: where it trains.
        folder: of the trial.
        seeds: of its trainings, in order.
        objectives: names in metrics.json.
        overrides: of its train command, but for the seed.
        lifeline: ends its processes with this one.
        training: the one that runs; None before the first has begun.
        scores: the objectives of the trainings that are complete, in the order of their seeds.
        seconds: how long all those took that have ended, of earlier tries too.
        reported: the last epoch whose score the study has.
        seen: the state of metrics.csv in which the study has all its scores.
        taken: another worker has it now.
    """

    asked: Asked
    slot: Slot
    folder: Path
    seeds: Sequence[int]
    objectives: Sequence[str]
    overrides: Sequence[str]
    lifeline: Lifeline
    training: Training | None = None
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    reported: int = -1
    seen: tuple[int, int] = (0, 0)
    taken: bool = False

    def training_folder(self, seed: int) -> Path:
        """Return the run folder of a seed."""
        return self.folder if len(self.seeds) == 1 else self.folder / f"seed-{seed}"

    def of_seed(self, reason: str) -> str:
        """Return a reason with the seed that it is of, where there are several."""
        several = len(self.seeds) > 1 and len(self.scores) < len(self.seeds)
        return f"seed {self.seeds[len(self.scores)]}: {reason}" if several else reason

    def go_on(self) -> bool:
        """Begin the first training that is not complete; say whether there was one.

        Raises:
            TrialError: if it cannot be begun, or one that is complete has no objective.
        """
        while len(self.scores) < len(self.seeds):
            seed = self.seeds[len(self.scores)]
            folder = self.training_folder(seed)
            metrics = read_metrics(folder)
            missing = [name for name in self.objectives if name not in metrics]
            if not is_complete(folder) or is_held(folder) or (missing and not self._has_trained(folder)):
                try:
                    self.training = Training(
                        folder,
                        [*self.overrides, f"seed={seed}", "test=false"],
                        slot=self.slot,
                        lifeline=self.lifeline,
                        processes=max(1, len(self.slot.gpus)),
                    )
                except OSError as error:
                    raise TrialError(self.of_seed(full_disk(error) or f"cannot be begun: {error}")) from error
                return True
            if missing:
                raise TrialError(self.of_seed(f"metrics.json has no number for {missing[0]}"))
            self.scores.append({name: metrics[name] for name in self.objectives})
        return False

    def _has_trained(self, folder: Path) -> bool:
        """Say whether a run folder is of the training that ended here just now; another may have been killed."""
        return self.training is not None and self.training.folder == folder

    def ended(self) -> None:
        """Add up how long its training took."""
        assert self.training is not None
        self.seconds += time.monotonic() - self.training.started

    def means(self) -> list[float]:
        """Return the objectives, each the mean over the seeds."""
        return [sum(scores[name] for scores in self.scores) / len(self.scores) for name in self.objectives]

    def write(self, state: str, values: Sequence[float] = (), **facts: Any) -> None:
        """Write the trial's record."""
        facts.pop("tail", None)  # the console's log has it
        write_record(
            self.folder,
            state,
            number=self.asked.trial.number,
            values=dict(zip(self.objectives, values, strict=False)),
            parameters=by_key(self.asked.values),
            **facts,
        )
