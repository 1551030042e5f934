"""The error a user can act on: shown as a sentence, never as a traceback."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(ValueError):
    """A mistake in what the user gave; the message names the key or file, the value and the remedy."""


class DataError(UserError):
    """A file of the data set that cannot be used; the message names the file.

    One positional argument, so that a DataLoader worker can hand it to the main process.
    """


def message_of(error: BaseException) -> str:
    """Return the sentence of an error; one raised in a DataLoader's worker carries its traceback as text."""
    text = str(error)
    if "Original Traceback" in text:
        return re.split(rf"\n[\w.]*{type(error).__name__}: ", text)[-1].strip()
    return text


def full_disk(error: BaseException) -> str | None:
    """Return the sentence for an error of a disk, or a user's share of one, that is full; None for any other."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return f"the disk is full: {error.filename or error}; free some space or give paths.output=FOLDER elsewhere"


def loader_died(error: BaseException) -> str | None:
    """Return what to do about a DataLoader's worker that has died; None for another error."""
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
        return None
    said = first_line(error).split(". ")[0].rstrip(". ")
    if "Bus error" in said:
        return (
            f"a process that loads samples died ({said}): shared memory (/dev/shm) is full; give a smaller "
            "loader.batch_size or loader.num_workers, or a container more of it (docker run --shm-size=8g)"
        )
    return (
        f"a process that loads samples died ({said}), most likely because memory ran out; give a smaller "
        "loader.num_workers or loader.batch_size, loader.cache=none, or loader.num_workers=0 to see an error of its own"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, or its name if it says nothing."""
    return (str(error.args[0] if error.args else error).splitlines() or [type(error).__name__])[0]


def fail(message: str, status: int = 1) -> NoReturn:
    """Print a sentence and end the process."""
    print(f"segtrain: {message}", file=sys.stderr)
    sys.exit(status)


@contextmanager
def requirement(package: str, install: str, *, error: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn the ImportError of an optional package into a sentence with its install line.

    Args:
        package: what is imported inside the `with`.
        install: as pip takes it, such as "timm>=1.0.15,<2".
        error: what is raised; UserError where no component stands before the sentence.

    Raises:
        ValueError: if the package, or one that it needs, is not installed.
    """
    try:
        yield
    except ImportError as missing:
        raise error(f"{package} is not installed or does not import ({missing}); pip install '{install}'") from missing
