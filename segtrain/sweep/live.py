"""What a search shows while it runs: a table on a terminal, and a line for each trial that ends."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segtrain.sweep.history import STATES
from segtrain.sweep.run_progress import Progress
from segtrain.sweep.running import Running
from segtrain.sweep.space import by_key
from segtrain.sweep.status import Status, ended_trial, seconds_of, status_of
from segtrain.sweep.training import Training
from segtrain.sweep.worker import Worker

log = logging.getLogger("segtrain")

REFRESH = 0.5  # seconds between two tables
GAP = 3  # characters between two columns
PARAMETERS = 20  # characters that their column has at least
FAR = "trained"  # the column that says how far a training is
QUERY = 1.0  # seconds between two questions to the study and looks into the run folders


@contextmanager
def shown(worker: Worker, console: Console | None = None) -> Iterator[None]:
    """Show what a worker does: on a terminal in a table below what is logged; elsewhere in a line a trial alone.

    Args:
        worker: whose `show` is set.
        console: where to; None for stdout.
    """
    console = console or Console()
    view = View(worker)
    if not console.is_terminal or console.is_dumb_terminal:
        worker.show = lambda worker: view.log_ended()
        yield
        return
    with Live(console=console, auto_refresh=False, transient=True) as live, _above(live):
        drawn = 0.0

        def show(worker: Worker) -> None:
            nonlocal drawn
            view.log_ended()
            if time.monotonic() - drawn >= REFRESH:
                drawn = time.monotonic()
                live.update(view.render(console.width), refresh=True)

        worker.show = show
        yield


@contextmanager
def _above(live: Live) -> Iterator[None]:
    """Let log lines go through the live display, which prints them above itself."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is live.console.file
    ]
    before = [handler.setStream(sys.stdout) for handler in handlers]  # the live display's own by now
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)


class View:
    """What is known of a search and its running trials, asked for once a second at most.

    Args:
        worker: that runs them.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.objective, self.mode = next(iter(worker.objectives.items()))
        self.seen: dict[str, Running] = {}  # by the name of their folder
        self.progress: dict[Path, Progress] = {}  # by the run folder
        self.status: Status | None = None
        self.asked = 0.0

    def log_ended(self) -> None:
        """Log a line for each trial that has ended since the last call."""
        now = {running.asked.folder: running for running in self.worker.running}
        gone = [running for folder, running in self.seen.items() if now.get(folder) is not running]
        self.seen = now
        for running in gone:
            if (record := ended_trial(self.worker, running)) is not None:
                log.info(ended_line(running.asked.folder, record, self._ask(), stopping=bool(self.worker.interrupted)))

    def render(self, width: int) -> Group:
        """Return the table of the running trials and the lines below it.

        Args:
            width: of the terminal, in characters; narrow ones get fewer columns.
        """
        if self.status is None or time.monotonic() - self.asked >= QUERY:
            self._ask()
            self._look()
        assert self.status is not None
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines(self.status)]
        return Group(self._table(width), *lines)

    def _ask(self) -> Status:
        self.asked = time.monotonic()
        self.status = status_of(self.worker)
        return self.status

    def _look(self) -> None:
        folders = [running.training.folder for running in self.worker.running if running.training is not None]
        self.progress = {
            folder: self.progress.get(folder) or Progress(folder, self.objective, self.mode) for folder in folders
        }
        for progress in self.progress.values():
            progress.look()

    def _table(self, width: int) -> Table:
        rows = [self._cells(running) for running in self.worker.running]
        kept, rest = self._fitting(rows, width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=rest >= PARAMETERS)
        for name in ("trial", "slot", FAR, self.objective, "best", "time"):
            if name in kept:
                right = name in (self.objective, "best", "time")
                table.add_column(name, justify="right" if right else "left", no_wrap=True)
        if rest >= PARAMETERS:
            table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
        for running, cells in zip(self.worker.running, rows, strict=True):
            values = [short(running.asked.values)] if rest >= PARAMETERS else []
            table.add_row(*[text for name, text in cells.items() if name in kept], *values)
        return table

    def _fitting(self, rows: list[dict[str, str]], width: int) -> tuple[list[str], int]:
        """Return the columns that fit, whole, by how much they matter, and the characters that they leave."""
        kept: list[str] = []
        rest = width
        for name in ("trial", FAR, self.objective, "time", "best", "slot"):
            needed = GAP + max(len(name), *(len(cells[name]) for cells in rows)) if rows else GAP + len(name)
            if kept and needed > rest:
                break
            kept.append(name)
            rest -= needed
        return kept, rest

    def _cells(self, running: Running) -> dict[str, str]:
        training: Training | None = running.training
        progress = None if training is None else self.progress.get(training.folder)
        far = "starting" if progress is None else progress.far
        if len(self.worker.seeds) > 1:
            far += f", seed {len(running.scores) + 1} of {len(self.worker.seeds)}"
        if training is not None and training.asked:
            far = "stopping"
        return {
            "trial": running.asked.folder,
            "slot": "GPU " + ",".join(map(str, running.slot.gpus)) if running.slot.gpus else str(running.slot.number),
            FAR: far,
            self.objective: number(None if progress is None else progress.last),
            "best": number(None if progress is None else progress.best),
            "time": clock(seconds_of(running)),
        }

    def _lines(self, status: Status) -> list[str]:
        named = {**STATES, TrialState.WAITING: "to be gone on with"}
        counts = [
            f"{count} {word}" for state, word in named.items() if (count := status.counts.get(state.name.lower()))
        ]
        lines = [f"{status.done} of {status.n_trials} trials: {', '.join(counts) or 'none has begun'}"]
        over = self.worker.interrupted or status.done >= status.n_trials
        lines[0] += "" if over else f"; {left(status)}"
        if len(status.best) == 1:
            lines.append(f"best {_best(status)}: {short(status.best[0].params)}")
        elif status.best:
            lines.append(f"{len(status.best)} trials on the Pareto front of {', '.join(self.worker.objectives)}")
        if self.worker.interrupted:
            lines.append(f"{self.worker.interrupted}: running trials save and end; Ctrl-C once more ends them at once")
        return lines


def ended_line(folder: str, record: Mapping[str, Any], status: Status, *, stopping: bool = False) -> str:
    """Return the line for a trial that has ended.

    Args:
        folder: its name.
        record: its trial.json.
        status: of the search, with this trial.
        stopping: the search ends before it has all its trials.
    """
    scores = ", ".join(f"{name} {number(value)}" for name, value in (record.get("values") or {}).items())
    best = f" (best {_best(status)})" if len(status.best) == 1 else ""
    line = f"trial {folder} {record['state']}{' ' if scores else ''}{scores}{best}, {status.done} of {status.n_trials}"
    return line if stopping or status.done >= status.n_trials else f"{line}, {left(status)}"


def _best(status: Status) -> str:
    best = status.best[0]
    return f"{number(best.values[0])} of trial {best.user_attrs.get('folder', f'{best.number:04}')}"


def left(status: Status) -> str:
    """Return in words how long a search takes yet."""
    seconds = status.seconds_left
    if seconds is None:
        return "time left known once a trial has ended"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days left"


def number(value: float | None) -> str:
    """Return a score in four digits; nothing as long as there is none."""
    return "" if value is None else f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """Return a duration as 1:05 or 2:03:04."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(values: Mapping[str, Any]) -> str:
    """Return parameters in few characters: by the last part of their names where that says which."""
    values = by_key(values)
    last = [key.rpartition(".")[2] for key in values]
    names = [name if last.count(name) == 1 else key for key, name in zip(values, last, strict=True)]
    texts = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values.values()]
    return " ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
