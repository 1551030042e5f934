"""Is the worker of a trial alive? A locked file says it to this machine, at once."""

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segtrain.errors import UserError


class Presence:
    """This worker's locked file; the kernel unlocks it however the process ends.

    Args:
        folder: of the search.
        held: numbers of the trials that name this worker; it may change.

    Raises:
        UserError: if it cannot be written there.
    """

    def __init__(self, folder: Path, held: Collection[int] = ()) -> None:
        self.held = held
        self.host = socket.gethostname()
        workers = folder.absolute() / "workers"
        self.path = workers / f"{self.host}-{os.getpid()}-{secrets.token_hex(2)}"
        part = workers / f".{self.path.name}"
        try:
            workers.mkdir(parents=True, exist_ok=True)
            self.file = part.open("w")  # not inherited by the trials
            fcntl.flock(self.file, fcntl.LOCK_EX)
            part.rename(self.path)  # seen only when locked
        except OSError as error:
            raise UserError(
                f"paths.output: cannot write {workers} ({error.strerror}); give paths.output=FOLDER"
            ) from error

    def forget_dead(self, needed: Collection[str]) -> None:
        """Remove the files of this machine's dead workers.

        Args:
            needed: files that trials still name.
        """
        for path in self.path.parent.glob(f"{self.host}-*"):
            if str(path) not in needed and is_dead({"host": self.host, "lock": str(path)}):
                path.unlink(missing_ok=True)

    def mark(self) -> dict[str, str]:
        """Return what a trial carries to name its worker."""
        return {"host": self.host, "lock": str(self.path)}

    def leave(self) -> None:
        """Say that this worker ends; its file stays if the study has trials that are still its own, and says so."""
        if not self.held:
            self.path.unlink(missing_ok=True)
        self.file.close()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # by the last


def is_dead(mark: Mapping[str, Any] | None) -> bool | None:
    """Say whether the worker of this mark is dead; None if that cannot be known here."""
    if mark is None or mark.get("host") != socket.gethostname():
        return None
    try:
        with Path(mark["lock"]).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:  # gone, or of another container of the same name
        return None
