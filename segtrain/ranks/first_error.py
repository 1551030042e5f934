"""Of the errors of a run's ranks the first is told, by one rank of each machine: the others follow from it."""

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from segtrain import errors
from segtrain.clusters.slurm import this_task
from segtrain.run_id import VARIABLE, global_rank

NAME = "first_error.json"
STARTED = time.time()  # of this process, by when another attempt's error is told from this one's
SKEW = 5.0  # seconds between the starts of a run's ranks, or the clocks of its machines
PREFIX = "segtrain-"  # of the meeting folders that are ours


@dataclass
class Told:
    """The error that came first."""

    rank: int
    host: str
    sentence: str

    def line(self) -> str:
        """Return it with the machine, for those that look at another one."""
        return self.sentence if self.host == socket.gethostname() else f"{self.sentence} (on {self.host})"


def meeting(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder where the ranks of a run meet that share a machine; None for a single process.

    It is theirs alone: inside torchrun's for its ranks, else named by the run's id.
    """
    if (path := environment.get("TORCHELASTIC_ERROR_FILE")) and _count(environment, "WORLD_SIZE") > 1:
        return Path(path).parents[1]
    if "LOCAL_RANK" in environment and _count(environment, "WORLD_SIZE") > 1:
        words = [environment.get(VARIABLE, "")]
    elif (task := this_task(environment)) is not None and task.count > 1:
        words = [environment.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")]
    else:
        return None
    return Path(tempfile.gettempdir()) / (PREFIX + re.sub(r"[^\w-]", "-", "-".join([str(os.getuid()), *words])))


def _count(environment: Mapping[str, str], name: str) -> int:
    return int(environment.get(name) or 1)


def forget(folder: Path) -> None:
    """Remove a meeting folder, unless it is in torchrun's."""
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def forget_old(folder: Path | None) -> None:
    """Remove the error of an attempt before this process began."""
    if folder is not None and _age(folder / NAME) > 0:
        (folder / NAME).unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Return by how many seconds a file is older than this process; below 0 if it is not, or there is none."""
    try:
        return STARTED - path.stat().st_mtime
    except OSError:
        return -1.0


def read(folder: Path | None) -> Told | None:
    """Return the first error that was left in a folder, if there is one of this attempt."""
    if folder is None or _age(folder / NAME) > SKEW:
        return None
    try:
        return Told(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except OSError:  # none, or a file system that will not say now
        return None
    except (ValueError, TypeError):  # it is being written
        return Told(-1, socket.gethostname(), "another rank failed")


def claim(folder: Path, told: Told) -> bool:
    """Leave an error in a folder, unless there is one; say whether this was the first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _age(folder / NAME) > SKEW:
            forget_old(folder)
        with (folder / NAME).open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(told)))
    except FileExistsError:
        return False
    except OSError:
        pass  # a full disk is no reason to keep silent
    return True


def tell(sentence: str, *, here: Path | None, run: Path | None = None, details: str = "") -> None:
    """Print an error, and write it into the run's train.log, if it is the first of all ranks.

    The first rank of a machine that fails later than one of another machine repeats that one's sentence.

    Args:
        sentence: what happened, with the remedy.
        here: where this machine's ranks meet, see `meeting`; None for a single process.
        run: the run folder, shared by all machines; None where it is not known yet.
        details: a traceback, shown above the sentence.
    """
    told = Told(global_rank(), socket.gethostname(), sentence)
    if here is not None and not claim(here, told):
        first = read(here)
        _tell_torchrun(f"follows from: {first.sentence}" if first else sentence)
        return
    if run is not None and run.is_dir():
        if not claim(run, told):
            first = read(run) or told
            sentence, details = first.line(), ""
        else:
            log(run, f"{details}{sentence}")
    _tell_torchrun(sentence)
    print(f"{details}segtrain: {sentence}", file=sys.stderr, flush=True)


def log(run: Path | None, text: str) -> None:
    """Append to train.log: rank 0 alone has it open, and may be the dead one."""
    if run is not None and run.is_dir():
        with contextlib.suppress(OSError), (run / "train.log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S,%f}"[:-3] + f" ERROR {text}\n")


def fail(message: str, status: int = 1) -> NoReturn:
    """Print a sentence, once for all ranks of a machine, and end the process."""
    if (here := meeting()) is None:
        errors.fail(message, status)
    tell(message, here=here)
    sys.exit(status)


def _tell_torchrun(sentence: str) -> None:
    """Leave the sentence where torchrun looks for what its table of failures shows."""
    if not (path := os.environ.get("TORCHELASTIC_ERROR_FILE")):
        return
    extra = {"py_callstack": sentence, "timestamp": str(int(time.time()))}
    with contextlib.suppress(OSError):
        Path(path).write_text(json.dumps({"message": {"message": sentence, "extraInfo": extra}}), encoding="utf-8")
