"""Does a process train in a run folder? It keeps the folder's config.yaml locked until it ends."""

import fcntl
import time
from pathlib import Path
from typing import IO

_HELD: list[IO[str]] = []  # until this process ends, or its job of a grid
LOOKS = 20  # at a lock before it is another run's: `is_held` holds one for a moment to see whether it is free


def hold(folder: Path) -> None:
    """Lock a run folder, so that two processes do not write into it.

    Raises:
        BlockingIOError: if another process trains there.
        OSError: if its config.yaml cannot be opened.
    """
    file = (folder / "config.yaml").open("a", encoding="utf-8")
    for look in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if look == LOOKS - 1:
                raise
            time.sleep(0.05)
    _HELD.append(file)


def release() -> None:
    """Unlock the run folders that this process has trained in, so that another may go on there."""
    while _HELD:
        _HELD.pop().close()


def is_held(folder: Path) -> bool:
    """Say whether a process trains in a run folder.

    The lock is a shared one, so that two who look at the same time do not see each other, and so is the way to open
    the file: it may be another user's.
    """
    try:
        with (folder / "config.yaml").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is none, it is closed to this user, or the file system has no locks
    return False
