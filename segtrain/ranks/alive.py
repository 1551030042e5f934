"""Which ranks of this machine are alive: a file each, locked for as long as its process lives."""

import contextlib
import fcntl
from pathlib import Path


class Alive:
    """This rank's locked file; the kernel unlocks it however the process ends.

    Args:
        folder: where the machine's ranks meet; made if it is not there.
        rank: this one.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / f"rank-{rank}"
        part = folder / f".rank-{rank}"
        self.file = part.open("w")
        fcntl.lockf(self.file, fcntl.LOCK_EX)  # of this process alone: its loader's workers do not inherit it
        part.rename(self.path)  # seen only when locked

    def dead(self) -> int | None:
        """Return a rank whose process has ended without leaving, None if there is none."""
        for path in sorted(self.folder.glob("rank-*")):
            if path != self.path and _unlocked(path):
                return int(path.name.removeprefix("rank-"))
        return None

    def leave(self) -> None:
        """Say that this rank ends in order."""
        self.path.unlink(missing_ok=True)
        self.file.close()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # by the last


def _unlocked(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return path.exists()  # else it has just left
    except OSError:
        return False
