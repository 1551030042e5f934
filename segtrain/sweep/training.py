"""One training of a trial: a process of its own in a run folder of its own, watched until it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from segtrain.callbacks.metrics_csv import read_rows
from segtrain.checkpoint import LAST
from segtrain.ranks.ending import STOPPED
from segtrain.sweep.slots import Slot

CONSOLE = "console.log"

End = Literal["complete", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        end: complete; stopped, when it was asked to and saved; failed by itself; lost, when it was killed.
        reason: why, in a line; empty when complete.
        tail: the last lines that it printed.
    """

    end: End
    reason: str = ""
    tail: str = ""


class Training:
    """A `segtrain train` process.

    Args:
        folder: its run folder; one that has a checkpoint is gone on with.
        overrides: of the train command.
        slot: where it trains.
        processes: how many torchrun starts; 1 is without it.
    """

    def __init__(self, folder: Path, overrides: Sequence[str], *, slot: Slot, processes: int = 1) -> None:
        self.folder = folder
        self.slot = slot
        folder.mkdir(parents=True, exist_ok=True)
        resumes = (folder / "checkpoints" / LAST).is_file()
        arguments = [f"resume={folder}"] if resumes else [*overrides, f"hydra.run.dir={folder}"]
        if not resumes:
            (folder / "config.yaml").unlink(missing_ok=True)  # of a start that did not come as far as a checkpoint
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        self.console: IO[bytes] = (folder / CONSOLE).open("ab")
        self.asked = ""  # why it was asked to stop
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *(torchrun if processes > 1 else []), "-m", "segtrain", "train", *arguments],
            env=slot.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self.console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is the search's, which stops its trials one by one
        )

    def ended(self) -> Ending | None:
        """Return how it ended; None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        self.console.close()
        tail = last_lines(self.folder / CONSOLE)
        if status == 0:
            return Ending("complete", tail=tail)
        if status == STOPPED or (self.asked and status < 0):
            return Ending("stopped", self.asked or "stopped by a signal", tail)
        if status < 0:
            return Ending("lost", f"killed by {signal.Signals(-status).name}", tail)
        return Ending("failed", _reason(tail) or f"ended with status {status}", tail)

    def ask_to_stop(self, reason: str) -> None:
        """Let it save and end after its step."""
        self.asked = reason
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all its processes at once."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return  # it has just ended

    def scores(self, monitor: str) -> list[tuple[int, float]]:
        """Return (epoch, score) of every validation so far."""
        rows = read_rows(self.folder / "metrics.csv")
        return [(int(row["epoch"]), float(row[monitor])) for row in rows if row.get(monitor)]

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the finished run, those of the best checkpoint's validation among them."""
        path = self.folder / "metrics.json"
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {key: float(value) for key, value in values.items() if value is not None}


def last_lines(path: Path, count: int = 20) -> str:
    """Return the end of a text file."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def _reason(tail: str) -> str:
    """Return the sentence of a user's mistake, or the last line of a traceback."""
    lines = [line for line in tail.splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.startswith("segtrain: ")]
    if starts:
        return "\n".join(lines[starts[-1] :]).removeprefix("segtrain: ")
    return lines[-1].strip() if lines else ""
