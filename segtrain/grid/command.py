"""The train command of one job of a grid by itself, and how to go on with one that is not complete."""

import re
import shlex
import sys
from pathlib import Path

from segtrain.config.quoting import flags_alone, quote
from segtrain.grid.record import Job


def arguments_of(job: Job, *, folder: Path | None = None) -> list[str]:
    """Return what follows `segtrain train` to run a job by itself, in its folder unless another one is given.

    As in the grid, the test split is left alone; a checkpoint's config says so already.
    """
    run = str(job.folder if folder is None else folder)
    value = run if re.fullmatch(r"[\w./-]+", run, re.ASCII) else quote(run)
    return [*flags_alone(sys.argv[1:]), *job.overrides, "test=false", f"hydra.run.dir={value}"]


def way_on(job: Job) -> str:
    """Return the command that goes on with a job that was begun, or runs it."""
    if job.own and (job.folder / "checkpoints" / "last.ckpt").is_file():
        arguments = [f"resume={job.folder}"]
    elif (job.folder / "config.yaml").is_file():  # another run may not take the place of this one
        arguments = arguments_of(job, folder=job.folder.with_name(f"{job.folder.name}-again"))
    else:
        arguments = arguments_of(job)
    return shlex.join(["segtrain", "train", *arguments])
