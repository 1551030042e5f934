"""What does a run's train.log say: how long it trained, and how it ended?"""

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from segtrain.last_words import last_words

LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ([A-Z]+) (.*)$")
COMMAND = "command: "  # begins the first record of every process that writes to the log
FITTED = "fit took "  # begins the record of a process that has trained to its end, before the test split is scored
JOB = re.compile(r"^job \S+: (.*)$")
STOPPED = re.compile(r"^(stopped by \w+|interrupted) after step")


class Record(NamedTuple):
    """What was said at a time; of several lines, such as those of a traceback, all."""

    time: datetime
    level: str
    texts: list[str]


@dataclass(frozen=True)
class Log:
    """The end of a log.

    Attributes:
        seconds: that the processes which wrote it ran, without the time between them; None for an empty log.
        ended: when its last record was written; empty for an empty log.
        error: the sentence of a user's mistake or the last line of a traceback, if that is the last that it says.
        untested: the error by which the last process that trained to its end could not score the test split.
        stopped: that a signal ended it in order, if that is the last that it says.
        overrides: of a sweep's job, as the sweep said it.
    """

    seconds: float | None = None
    ended: str = ""
    error: str = ""
    untested: str = ""
    stopped: str = ""
    overrides: tuple[str, ...] = ()


def read_log(path: Path) -> Log:
    """Return what a train.log says; one that is not there, or that this user may not read, says nothing."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Log()
    processes = _processes(lines)
    if not processes:
        return Log()
    last = processes[-1][-1]
    fitted = [process[-1] for process in processes if any(record.texts[0].startswith(FITTED) for record in process)]
    jobs = [found[1] for process in processes for record in process if (found := JOB.match(record.texts[0]))]
    return Log(
        seconds=sum((process[-1].time - process[0].time).total_seconds() for process in processes),
        ended=last.time.isoformat(),
        error=_error(last),
        untested=_error(fitted[-1]) if fitted else "",
        stopped=last.texts[0].partition(";")[0] if STOPPED.match(last.texts[0]) else "",
        overrides=tuple(_words(jobs[-1])) if jobs and jobs[-1] != "no overrides" else (),
    )


def _processes(lines: list[str]) -> list[list[Record]]:
    """Return the records of every process that wrote to a log."""
    processes: list[list[Record]] = []
    for line in lines:
        if (found := LINE.match(line)) is not None:
            record = Record(datetime.fromisoformat(found[1].replace(",", ".")), found[2], [found[3]])
            if not processes or found[3].startswith(COMMAND):
                processes.append([])
            processes[-1].append(record)
        elif processes:
            processes[-1][-1].texts.append(line)
    return processes


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a record that a full disk cut
        return text.split()


def _error(record: Record) -> str:
    """Return an error's sentence as it is, and the last line of a traceback; nothing of another record."""
    if record.level != "ERROR":
        return ""
    text = "\n".join(record.texts).strip()
    return last_words(text) if text.startswith("Traceback") else " ".join(text.split())
