"""Has every job of a grid a folder of its own, in which nothing was trained before?"""

import shlex
from collections.abc import Sequence
from os.path import exists
from pathlib import Path

from segtrain.errors import UserError
from segtrain.grid.record import Job, has_run
from segtrain.run_id import requeued
from segtrain.run_lock import is_held
from segtrain.states import RECORD


def check_folders(jobs: Sequence[Job]) -> None:
    """Refuse a grid that would write into the folders of another one, or twice into the same.

    Raises:
        UserError: naming the folder.
    """
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.folder, job)
        if other is not job:
            raise UserError(
                f"hydra.sweep.subdir: jobs {other.number} and {job.number} would share the folder {job.folder}; leave "
                "it out, or give it what differs between the jobs"
            )
    if requeued():  # the folders are its own
        return
    taken = [folder for folder in first if has_run(folder) or exists(folder / RECORD)]
    if taken:
        held = next(filter(is_held, taken), None)
        now = "" if held is None else f", and a process is training in {held} now"
        way = _or_resume(taken)
        raise UserError(f"{taken[0]}: a job of another grid is here already{now}; give another hydra.sweep.dir{way}")


def _or_resume(taken: Sequence[Path]) -> str:
    """Return how to go on with the first job that is not complete and not running, as the end of a sentence."""
    for folder in taken:
        begun = exists(folder / "checkpoints" / "last.ckpt") and not exists(folder / "metrics.json")
        if begun and not is_held(folder):
            way = shlex.join(["segtrain", "train", f"resume={folder}"])
            return f", or go on with what is not complete by {way}"
    return ""
