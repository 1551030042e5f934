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
        return next((_rank(path) for path in self._others() if _unlocked(path)), None)

    def others(self) -> bool:
        """Say whether any other rank is alive."""
        return any(not _unlocked(path) for path in self._others())

    def _others(self) -> list[Path]:
        return sorted(set(self.folder.glob("rank-*")) - {self.path}, key=_rank)

    def leave(self) -> None:
        """Say that this rank ends in order."""
        self.path.unlink(missing_ok=True)
        self.file.close()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # by the last


def _rank(path: Path) -> int:
    return int(path.name.removeprefix("rank-"))


def _unlocked(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return path.exists()  # else it has just left
    except OSError:
        return False
