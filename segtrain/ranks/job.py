"""A command's body as one of several ranks, whoever starts them: torchrun, SLURM or Lightning."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from segtrain.ranks import first_error
from segtrain.ranks.ending import Terminated, in_order
from segtrain.ranks.watch import Watch
from segtrain.run_id import global_rank


class _Job:
    """What runs in this process, for those who are called by Lightning or by the system."""

    runs = False
    run: Path | None = None
    watch: Watch | None = None


@contextmanager
def together(run: Path | None) -> Iterator[None]:
    """Run a job that may be one of several ranks: the first error of them is told, and ends this process here.

    A single process is left alone.

    Args:
        run: the run folder; None for a command that has none.
    """
    _Job.runs, _Job.run = True, run
    if global_rank() == 0:
        first_error.forget_old(run)
    if (folder := first_error.meeting()) is not None:
        _watch(Watch(run, folder))
    try:
        yield
    except BaseException as error:
        if _Job.watch is not None and not in_order(error):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending already
            _Job.watch.fail(error)
            sys.exit(1)
        raise
    finally:
        if _Job.watch is not None and _Job.watch.failed is None:
            _Job.watch.leave()
            _Job.watch = None
        _Job.runs, _Job.run = False, None


def in_job() -> bool:
    """Say whether this process runs a job; a script that builds a Trainer of its own keeps Lightning's ways."""
    return _Job.runs


def children_started(child_processes: list[subprocess.Popen[Any]]) -> None:
    """Watch the ranks that Lightning has started; its own thread would kill all, rank 0 included, without a word."""
    folder = first_error.meeting()
    assert folder is not None, "Lightning does not set LOCAL_RANK and WORLD_SIZE"
    first_error.forget(folder)  # of an earlier run with this id
    _watch(Watch(_Job.run, folder, child_processes))


def failing(error: BaseException) -> None:
    """Note that this rank has failed: should it hang when it cleans up, it is ended all the same."""
    if _Job.watch is not None and not in_order(error):
        _Job.watch.note(error)


def _watch(watch: Watch) -> None:
    if _Job.watch is not None:
        _Job.watch.leave()
    _Job.watch = watch
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)
    watch.start()


def _terminated(number: int, frame: FrameType | None) -> None:
    if _Job.watch is not None and _Job.watch.failed is None:  # else it is ending already
        raise Terminated(128 + number)
