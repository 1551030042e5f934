"""A SLURM job array: submitted through submitit, and watched without accounting until its last task is over."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from segtrain.clusters.job_state import NoAnswerError, array_facts, is_over, why_over
from segtrain.clusters.submit import Resources, Submitter
from segtrain.grid.command import arguments_of
from segtrain.grid.record import Job
from segtrain.grid.task import become
from segtrain.last_words import PRINTED, last_lines, last_words
from segtrain.ranks import ending
from segtrain.states import COMPLETE, FAILED, LOST, RUNNING, STOPPED

log = logging.getLogger("segtrain")


def submit(jobs: Sequence[Job], resources: Resources, folder: Path) -> list[str]:
    """Submit jobs as one array; return their ids, such as "12_0".

    Args:
        jobs: at least one.
        resources: of each.
        folder: of submitit's files and what the jobs print.

    Raises:
        UserError: if submitit or SLURM's commands are missing, or sbatch refuses the jobs.
    """
    submitter = Submitter(folder, resources, name=folder.parent.name)
    submitted = submitter.submit_array(become, [arguments_of(job) for job in jobs])
    for job, one in zip(jobs, submitted, strict=True):
        job.console, job.own = Path(one.paths.stdout), True
    return [str(one.job_id) for one in submitted]


def wait_for(jobs: Mapping[str, Job], *, poll: float, told: Callable[[str], None] = log.info) -> None:
    """Wait until SLURM is done with all jobs, and record how each ended.

    Args:
        jobs: by their ids.
        poll: seconds between two questions to SLURM.
        told: takes a line for each job that starts, waits to be run again, or ends.
    """
    array = next(iter(jobs)).partition("_")[0]
    left, answers = dict(jobs), True
    while left:
        try:
            known = array_facts(array)
        except NoAnswerError as error:
            if answers:
                log.warning(f"SLURM does not say what its jobs do ({error}); asking again every {poll:g} s")
            answers = False
            time.sleep(poll)
            continue
        answers = True
        for name, job in list(left.items()):
            facts = known.get(name)
            if is_over(None if facts is None else facts["JobState"]):
                settle(job, facts)
                del left[name]
                told(f"job {job.folder.name} {'done' if job.state == COMPLETE else f'{job.state}: {job.reason}'}")
            elif facts is not None:
                _follow(job, facts, told)
        if left:
            time.sleep(poll)


def _follow(job: Job, facts: dict[str, str], told: Callable[[str], None]) -> None:
    """Note that a job has started, or waits again after it was preempted."""
    runs = facts["JobState"] == "RUNNING"
    if runs and job.state != RUNNING:
        job.state, job.host = RUNNING, facts.get("NodeList", "")
        job.started = job.started or time.monotonic()
        again = "again " if facts.get("Restarts", "0") != "0" else ""
        told(f"job {job.folder.name} runs {again}on {job.host}")
    elif facts["JobState"] == "PENDING" and job.state == RUNNING:
        job.state = STOPPED
        told(f"job {job.folder.name} was preempted; SLURM runs it again, and it goes on from its checkpoint")


def settle(job: Job, facts: dict[str, str] | None) -> None:
    """Record how a job ended; a run folder that has its scores is complete, whatever SLURM remembers."""
    finished = (job.folder / "metrics.json").is_file()
    if finished and (facts is None or facts["JobState"] == "COMPLETED"):
        job.end(COMPLETE)
        return
    state = "" if facts is None else facts["JobState"]
    status = int((facts or {}).get("ExitCode", "0").partition(":")[0] or 0)
    if state == "CANCELLED" or status == ending.STOPPED:
        job.end(STOPPED, why_over(facts))
    elif state == "FAILED" and 0 < status < 128:
        job.end(FAILED, last_words(last_lines(job.console, PRINTED)) or why_over(facts))
    else:
        job.end(LOST, why_over(facts))
