"""A job of a grid: what it trains, in which folder, and what became of it."""

import socket
import time
from dataclasses import dataclass, field
from os.path import exists
from pathlib import Path

from segtrain.metrics_file import read_metrics
from segtrain.run_id import requeued
from segtrain.states import COMPLETE, NOT_RUN, RECORD, RUNNING
from segtrain.trial_record import write_record

RUN = ("config.yaml", "train.log", "metrics.json", "checkpoints")  # what trained in a folder has left one of them


@dataclass
class Job:
    """One training of a grid.

    Attributes:
        number: from 0.
        folder: its run folder.
        overrides: of its train command.
        differs: those that not all jobs have.
        monitor: the score that jobs are compared by.
        mode: "max" or "min".
        exact: it asks for deterministic kernels alone.
        state: one of `segtrain.states.STATES`, but for pruned.
        reason: why it failed or stopped; empty otherwise.
        seconds: how long it ran.
        host: where.
        console: what its process prints, if that is kept in a file.
        started: when it began to run, by a clock that only counts; 0 if it has not.
        own: a run that is in its folder is its own, also of a grid that SLURM runs again.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    differs: tuple[str, ...] = ()
    monitor: str = "val/miou"
    mode: str = "max"
    exact: bool = False
    state: str = NOT_RUN
    reason: str = ""
    seconds: float = 0.0
    host: str = field(default_factory=socket.gethostname)
    console: Path | None = None
    started: float = 0.0
    own: bool = field(default_factory=requeued)

    def await_turn(self) -> None:
        """Note that it has not run, unless its folder says more: a grid that SLURM runs again has begun some."""
        if not (self.folder / RECORD).is_file():
            self.write()

    def begin(self) -> None:
        """Note that it runs."""
        self.own = self.own or not has_run(self.folder)
        self.state, self.started = RUNNING, time.monotonic()
        self.write()

    def end(self, state: str, reason: str = "") -> None:
        """Note how it ended, here and in its folder."""
        self.state, self.reason = state, reason
        self.seconds = time.monotonic() - self.started if self.started else 0.0
        self.write()

    def write(self) -> None:
        """Write trial.json, as a search does for its trials."""
        score = self.score()
        write_record(
            self.folder,
            self.state,
            number=self.number,
            values={} if score is None else {self.monitor: score},
            parameters=dict(word.lstrip("+~").partition("=")[::2] for word in self.differs),
            seconds=round(self.seconds, 1),
            reason=self.reason,
            host=self.host,
        )

    def score(self) -> float | None:
        """Return the monitored score of its best checkpoint; None as long as it is not complete, or has none."""
        return read_metrics(self.folder).get(self.monitor) if self.state == COMPLETE else None


def has_run(folder: Path) -> bool:
    """Say whether a training has left something in a folder."""
    return any(exists(folder / name) for name in RUN)


JOBS: list[Job] = []  # of this process's grid
