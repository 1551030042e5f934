"""A thread of each rank that sees when another has died or failed, and ends its own process if need be."""

import contextlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from segtrain.errors import UserError, first_line, message_of
from segtrain.ranks import first_error
from segtrain.ranks.alive import Alive
from segtrain.ranks.ending import DONE, STOPPED, Terminated, go_on, how_ended, how_lost, lost_another, why_left
from segtrain.run_id import global_rank

POLL = 0.5  # seconds between two looks at the others
GRACE = 5.0  # seconds in which a rank may end by itself once another is gone
OWN_GRACE = 20.0  # likewise once it has failed itself, and cleans up


class Watch(threading.Thread):
    """Look after the other ranks while the main thread computes, or waits in a collective for one that is gone.

    Args:
        run: the run folder; None for a command that has none.
        folder: where this machine's ranks meet.
        children: the ranks that this one has started, in order; emptied once it fails, so that Lightning does not
            kill them while one tells.
    """

    def __init__(self, run: Path | None, folder: Path, children: list[subprocess.Popen[Any]] | None = None) -> None:
        super().__init__(daemon=True, name="ranks")
        self.run_folder = run
        self.folder = folder
        self.children = list(children or ())
        self.of_lightning = children
        self.rank = global_rank()
        self.alive = Alive(folder, self.rank)
        self.launcher = None if children else os.getppid()
        self.failed: tuple[float, BaseException] | None = None
        self.told = False
        self.ended = threading.Event()

    def run(self) -> None:
        deadline = math.inf
        while not self.ended.wait(POLL):
            if self.failed is not None:
                deadline = self.failed[0] + OWN_GRACE
            elif self.trouble() is None:
                deadline = math.inf
            elif deadline == math.inf:
                deadline = time.monotonic() + GRACE
            if time.monotonic() > deadline:
                self._end_by_force()

    def leave(self) -> None:
        """End in order: the others need not follow."""
        self.ended.set()
        self.alive.leave()

    def trouble(self) -> str | None:
        """Return what is wrong with the other ranks, None while all is well."""
        if told := first_error.read(self.folder) or first_error.read(self.run_folder):
            return told.line()
        return self._dead_child() or self._dead_rank()

    def _dead_child(self) -> str | None:
        unlocked = self.alive.dead()
        for rank, child in enumerate(self.children, start=self.rank + 1):
            if rank == unlocked:  # its status is known a moment later
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(GRACE)
            if child.poll() not in (None, DONE, STOPPED):
                return f"rank {rank} {how_ended(child.returncode)}{go_on(self.run_folder)}"
        return None

    def _dead_rank(self) -> str | None:
        if (rank := self.alive.dead()) is not None:
            return f"rank {rank} has died without a word, perhaps because memory ran out{go_on(self.run_folder)}"
        if self.launcher not in (None, os.getppid()):
            return f"the process that started rank {self.rank} has ended{go_on(self.run_folder)}"
        return None

    def note(self, error: BaseException) -> None:
        """Give this rank, which has failed, some time to end."""
        if self.failed is None:
            self.failed = (time.monotonic(), error)
            if self.of_lightning is not None:
                self.of_lightning.clear()

    def fail(self, error: BaseException) -> None:
        """Tell the error of this rank, or what it follows from, and see to it that no rank is left."""
        self.failed = (time.monotonic(), error)
        self._tell(*self._verdict(error))
        self._end_children()

    def _tell(self, sentence: str, details: str = "") -> None:
        if not self.told:
            first_error.tell(sentence, here=self.folder, run=self.run_folder, details=details)
        self.told = True

    def _verdict(self, error: BaseException) -> tuple[str, str]:
        """Return the sentence and the traceback of an error, or the sentence of what it follows from."""
        if isinstance(error, UserError):
            return f"rank {self.rank}: {message_of(error)}", ""
        if isinstance(error, Terminated) and (cause := self.trouble()) is not None:
            return cause, ""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return f"{why_left(error, self.rank)}{go_on(self.run_folder)}", ""
        if lost_another(error):
            sentence = how_lost(error, self.rank)
            first_error.log(self.run_folder, sentence)
            return self._wait_for_trouble() or f"{sentence}{go_on(self.run_folder)}", ""
        sentence = f"rank {self.rank} failed: {type(error).__name__}: {first_line(error)}{go_on(self.run_folder)}"
        return sentence, "".join(traceback.format_exception(error))

    def _wait_for_trouble(self) -> str | None:
        """Give the rank that was lost, or the one that knows more of it, the time to tell."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if self.trouble() is not None:
                if not self.children:
                    time.sleep(2 * POLL)
                return self.trouble()
            time.sleep(POLL / 5)
        return None

    def _end_children(self) -> None:
        deadline = time.monotonic() + 2 * GRACE  # they may end by force, and say where they hang
        for child in self.children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if not self.alive.others():
            first_error.forget(self.folder)

    def _end_by_force(self) -> None:
        """End this process although its main thread hangs; train.log says where."""
        main = sys._current_frames()[threading.main_thread().ident or 0]
        where = "".join(traceback.format_stack(main))
        if self.failed is not None:
            self._tell(*self._verdict(self.failed[1]))
        else:
            self._tell(self.trouble() or "another rank has ended")
        first_error.log(self.run_folder, f"rank {self.rank} was ended here:\n{where}")
        for worker in multiprocessing.active_children():
            worker.kill()
        self._end_children()
        os._exit(1)
