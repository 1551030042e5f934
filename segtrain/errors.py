"""The error a user can act on: shown as a sentence, never as a traceback."""

import re
import sys
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


def fail(message: str, status: int = 1) -> NoReturn:
    """Print a sentence and end the process."""
    print(f"segtrain: {message}", file=sys.stderr)
    sys.exit(status)
