"""The processes of a training: who is asked to stop, with what status they ended, and none is left behind."""

import contextlib
import os
import re
import signal
from pathlib import Path

from segtrain.ranks.ending import STOPPED

STATUS = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)", re.MULTILINE)  # in torchrun's table of the ranks that failed


def ask_to_stop(pid: int, *, torchrun: bool) -> None:
    """Send SIGTERM to the training alone: its loader's processes would die of it before it has saved.

    Under torchrun to each rank: torchrun itself would pass it on to all that they have started, and kill what has not
    ended after 30 s. Ranks that Lightning started hear of it from their first.

    Args:
        pid: of the process that was started.
        torchrun: it is torchrun.
    """
    for target in (children(pid) if torchrun else []) or [pid]:
        _send(target, signal.SIGTERM)


def kill_all(pid: int) -> None:
    """End a process and all that it has started, torchrun's ranks too, which are in sessions of their own."""
    for member in family(pid):
        _send(member, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def family(pid: int) -> list[int]:
    """Return a process and all those below it, parents first."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are alive; none where the system has no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def status_of(status: int, printed: str) -> int:
    """Return the status of a training under torchrun as that of its ranks: torchrun ends with 1 either way.

    Args:
        status: of the process that was started, torchrun or not; negative for a signal.
        printed: what it printed.

    Returns:
        75 if a rank was asked to stop and has saved, a negative number if one was killed by that signal.
    """
    if status != 1:
        return status
    ranks = [int(text) for text in STATUS.findall(printed)]
    if STOPPED in ranks:
        return STOPPED
    killed = [rank for rank in ranks if rank < 0 and rank != -signal.SIGTERM]
    return killed[0] if killed else status
