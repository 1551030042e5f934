"""What does a run's train.log say: how long it trained, and how it ended?"""

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segtrain.last_words import last_words

RECORD = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ([A-Z]+) (.*)$")
COMMAND = "command: "  # begins the first record of every process that writes to the log
JOB = re.compile(r"^job \S+: (.*)$")
STOPPED = re.compile(r"^(stopped by \w+|interrupted) after step")


@dataclass(frozen=True)
class Log:
    """The end of a log.

    Attributes:
        seconds: that the processes which wrote it ran, without the time between them; None for an empty log.
        ended: when its last record was written; empty for an empty log.
        error: the sentence of a user's mistake or the last line of a traceback, if that is the last that it says.
        stopped: that a signal ended it in order, if that is the last that it says.
        overrides: of a sweep's job, as the sweep said it.
    """

    seconds: float | None = None
    ended: str = ""
    error: str = ""
    stopped: str = ""
    overrides: tuple[str, ...] = ()


def read_log(path: Path) -> Log:
    """Return what a train.log says; one that is not there, or that this user may not read, says nothing."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Log()
    total, began, last = 0.0, None, None
    level, texts, overrides = "", [""], ""
    for line in lines:
        if (record := RECORD.match(line)) is None:
            texts.append(line)  # of a traceback
            continue
        time, level, texts = datetime.fromisoformat(record[1].replace(",", ".")), record[2], [record[3]]
        job = JOB.match(record[3])
        overrides = job[1] if job else overrides
        if record[3].startswith(COMMAND) and began is not None and last is not None:
            total, began = total + (last - began).total_seconds(), None
        began, last = began or time, time
    if began is None or last is None:
        return Log()
    return Log(
        seconds=total + (last - began).total_seconds(),
        ended=last.isoformat(),
        error=_error(texts) if level == "ERROR" else "",
        stopped=texts[0].partition(";")[0] if STOPPED.match(texts[0]) else "",
        overrides=() if overrides == "no overrides" else tuple(_words(overrides)),
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a record that a full disk cut
        return text.split()


def _error(texts: list[str]) -> str:
    """Return a sentence as it is, and the last line of a traceback."""
    text = "\n".join(texts).strip()
    return last_words(text) if text.startswith("Traceback") else " ".join(text.split())
