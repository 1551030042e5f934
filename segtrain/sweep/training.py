"""One training of a trial: a process of its own in a run folder of its own, watched until it ends."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtrain.checkpoint import LAST
from segtrain.last_words import PRINTED, TAIL, last_lines, last_words
from segtrain.lifeline import Lifeline
from segtrain.ranks.ending import STOPPED, how_ended
from segtrain.run_id import AGAIN
from segtrain.run_lock import is_held
from segtrain.sweep.processes import ask_to_stop, kill_all, status_of
from segtrain.sweep.slots import Slot

log = logging.getLogger("segtrain")

TRAIN = ("-m", "segtrain", "train")
CONSOLE = "console.log"
PATIENCE = 600.0  # seconds for the checkpoint of a training that was asked to stop
BUSY = "another process is training here"  # as a run says it whose folder is locked
# what the ranks of a run say when the system has killed one
KILLED_RANK = re.compile(r"rank \d+ (was killed by signal|has died without a word)|process that started rank")

End = Literal["complete", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        end: complete; stopped, when it was asked to; failed by itself; lost, when it was killed.
        reason: why, in a line; empty when complete.
        tail: the last lines that it printed.
    """

    end: End
    reason: str = ""
    tail: str = ""


class Training:
    """A `segtrain train` process, begun once no other one trains in its folder.

    Args:
        folder: its run folder; one that has a checkpoint is gone on with.
        overrides: of the train command.
        slot: where it trains.
        lifeline: ends it with this process.
        processes: how many torchrun starts; 1 is without it.
    """

    def __init__(
        self, folder: Path, overrides: Sequence[str], *, slot: Slot, lifeline: Lifeline, processes: int = 1
    ) -> None:
        self.folder = folder
        self.overrides = list(overrides)
        self.slot = slot
        self.lifeline = lifeline
        self.processes = processes
        self.asked = ""  # why it was asked to stop
        self.asked_at = 0.0
        self.started = time.monotonic()
        self.ending: Ending | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.printed = 0  # bytes of the console's log that are of earlier tries
        folder.mkdir(parents=True, exist_ok=True)
        if not self._begin():
            log.warning(f"another process still trains in {folder}; its end is waited for")

    def _begin(self) -> bool:
        """Start the process unless the folder is locked; say whether it was started."""
        if is_held(self.folder):  # by one that saves, as its worker is dead
            return False
        resumes = (self.folder / "checkpoints" / LAST).is_file()
        arguments = [*self.overrides, f"hydra.run.dir={self.folder}"]
        (self.folder / "metrics.json").unlink(missing_ok=True)  # of a run that came to no end, or lacks an objective
        if not resumes:
            (self.folder / "config.yaml").unlink(missing_ok=True)  # of a start that came to no checkpoint
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"]
        with (self.folder / CONSOLE).open("ab") as console:
            self.printed = console.tell()
            self.process = subprocess.Popen(
                [sys.executable, *(torchrun if self.processes > 1 else []), *TRAIN, *arguments],
                # not resume=, which reads the checkpoint's config and has to be told of the user's own components
                env={**self.slot.environment(), **self.lifeline.environment(), AGAIN: str(int(resumes))},
                stdin=self.lifeline.stdin,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is the search's, which stops its trials one by one
            )
        self.started = time.monotonic()
        return True

    def ended(self) -> Ending | None:
        """Return how it ended; None while it runs, or waits for its folder."""
        if self.ending is not None:
            return self.ending
        if self.process is None:
            if self.asked:
                return Ending("stopped", self.asked)
            self._begin()
            return None
        if self.asked and time.monotonic() - self.asked_at > PATIENCE:
            kill_all(self.process.pid)
        # its remains are ended before its number is free again, and with them their hold of the folder
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        kill_all(self.process.pid)
        printed = last_lines(self.folder / CONSOLE, PRINTED, start=self.printed)
        self.ending = self._ending(status_of(self.process.wait(), printed), printed)
        return self.ending

    def _ending(self, status: int, printed: str) -> Ending:
        tail = "\n".join(printed.splitlines()[-TAIL:])
        if status == 0 and is_complete(self.folder):
            return Ending("complete", tail=tail)
        if self.asked:  # before its first step it ends without a word
            return Ending("stopped", self.asked, tail)
        if status in (0, STOPPED):
            return Ending("lost", "stopped by a signal", tail)
        if status < 0:
            return Ending("lost", how_ended(status), tail)
        reason = last_words(printed) or f"ended with status {status}"
        if BUSY in reason:
            return Ending("stopped", reason, tail)
        return Ending("lost" if KILLED_RANK.search(reason) else "failed", reason, tail)

    def ask_to_stop(self, reason: str) -> None:
        """Let it save and end after its step."""
        self.asked, self.asked_at = reason, time.monotonic()
        if self.process is not None and self.ending is None:
            ask_to_stop(self.process.pid, torchrun=self.processes > 1)

    def kill(self) -> None:
        """End all its processes at once."""
        self.asked = self.asked or "killed"
        if self.process is not None and self.ending is None:
            kill_all(self.process.pid)


def is_complete(folder: Path) -> bool:
    """Say whether the training of a folder has come to its end: a run writes its metrics.json then."""
    return (folder / "metrics.json").is_file()
