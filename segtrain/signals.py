"""The signals that ask a run to stop, and those that came before it trained."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

EARLY: list[int] = []  # obeyed after the first step


def note_signals() -> None:
    """Note these signals instead of ending at once, until training takes them over."""
    for number in SIGNALS:
        signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    EARLY.append(number)
