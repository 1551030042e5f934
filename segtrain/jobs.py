"""The body of a command as a job: its log, its failure, and the table at the end of a sweep (-m)."""

import json
import logging
import math
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich import box
from rich.table import Table

from segtrain import ranks
from segtrain.errors import UserError, fail, full_disk, loader_died, message_of
from segtrain.logs import log_to_file, start_logging
from segtrain.results.run_log import COMMAND

log = logging.getLogger("segtrain")


@dataclass
class Job:
    """One run of a sweep."""

    folder: Path
    overrides: str
    error: str = ""


JOBS: list[Job] = []


def in_sweep() -> bool:
    """Say whether the running command is a job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def without_password(word: str) -> str:
    """Return a word of a command in which an address, such as a storage's, has no password."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", word)


@contextmanager
def job(*, log_file: str | None = None) -> Iterator[Path]:
    """Give a command's body its folder and log; its failure goes to that log and is remembered for the table.

    A user's mistake ends a single command here, in one sentence; in a sweep it goes on to Hydra, which runs the
    other jobs first.

    Args:
        log_file: name of the log in the run folder; None for commands that have none.
    """
    hydra = HydraConfig.get()
    this = Job(Path(hydra.runtime.output_dir), " ".join(hydra.overrides.task))
    start_logging(None if log_file is None else this.folder / log_file)
    log.debug(COMMAND + shlex.join([Path(sys.argv[0]).name, *map(without_password, sys.argv[1:])]))
    if in_sweep():
        JOBS.append(this)
        log.info(f"job {this.folder.name}: {this.overrides or 'no overrides'}")
    try:
        with nullcontext() if in_sweep() else ranks.together(this.folder if log_file else None), _worded(this.folder):
            yield this.folder
    except UserError as error:
        this.error = message_of(error)
        log_to_file(this.error)
        if not in_sweep():
            fail(this.error)
        raise
    except SystemExit:
        this.error = "stopped by a signal"
        raise
    except Exception as error:
        this.error = f"{type(error).__name__}: {error}"
        log_to_file(traceback.format_exc())
        raise


@contextmanager
def _worded(folder: Path) -> Iterator[None]:
    """Say what to do about a full disk, or a loader's worker that died, which both are met anywhere."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (sentence := full_disk(error) or loader_died(error)) is None:
            raise
        raise UserError(f"{sentence}{ranks.go_on(folder)}") from error


def finish_sweep(monitor: str = "val/miou") -> int:
    """Print the table of the jobs of a sweep, best first, and return how many failed."""
    if not JOBS:
        return 0
    from segtrain.summary import render

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("job", "status", monitor, "overrides"):
        table.add_column(column, overflow="fold")
    scores = [_score(job, monitor) for job in JOBS]
    ranked = [-math.inf if score is None else score for score in scores]
    order = sorted(range(len(JOBS)), key=lambda index: -ranked[index])
    shared = set.intersection(*(set(job.overrides.split()) for job in JOBS)) if len(JOBS) > 1 else set()
    for index in order:
        job, score = JOBS[index], scores[index]
        status = "failed" if job.error else "done"
        differs = " ".join(word for word in job.overrides.split() if word not in shared)
        table.add_row(job.folder.name, status, "" if score is None else f"{score:.4f}", differs)
    print(f"{render(table)}\n\nsweep folder {JOBS[0].folder.parent}")
    failed = [job for job in JOBS if job.error]
    for job in failed:
        print(f"job {job.folder.name} failed: {job.error.splitlines()[0]} (see {job.folder / 'train.log'})")
    best = JOBS[order[0]]
    if scores[order[0]] is not None:
        print(f"test the best: segtrain eval checkpoint={best.folder / 'checkpoints' / 'best.ckpt'} split=test")
    return len(failed)


def _score(job: Job, monitor: str) -> float | None:
    path = job.folder / "metrics.json"
    return json.loads(path.read_text()).get(monitor) if path.is_file() else None
