"""A SLURM job array: submitted through submitit, and watched without accounting until its last task is over."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtrain.clusters.job_state import NoAnswerError, array_facts, is_over, why_over
from segtrain.errors import UserError, requirement
from segtrain.grid.command import arguments_of
from segtrain.grid.record import Job
from segtrain.grid.task import become
from segtrain.last_words import PRINTED, last_lines, last_words
from segtrain.ranks import ending
from segtrain.states import COMPLETE, FAILED, LOST, RUNNING, STOPPED

log = logging.getLogger("segtrain")

SUBMITIT = "submitit>=1.5.2,<2"


@dataclass
class Resources:
    """What each job of the array asks of SLURM; see `configs/hydra/launcher/slurm.yaml`."""

    partition: str | None = None
    time: int = 1440
    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: str | None = None
    max_parallel: int | None = None
    sbatch: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[str] = ()

    def check(self) -> None:
        """Refuse numbers that no job can have.

        Raises:
            UserError: naming the key.
        """
        for key in ("time", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "max_parallel"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"hydra.launcher.{key}: {value!r} is not a positive whole number")

    def submitits(self, name: str) -> dict[str, Any]:
        """Return them as submitit takes them."""
        given = {
            "partition": self.partition,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "mem": self.memory,
            "array_parallelism": self.max_parallel,
            "setup": list(self.setup) or None,
            "additional_parameters": {"requeue": True, **self.sbatch},
        }
        # srun does not take the cores over from sbatch since SLURM 22.05
        cores = [] if self.cpus_per_task is None else [f"--cpus-per-task={self.cpus_per_task}"]
        return {
            **{key: value for key, value in given.items() if value is not None},
            "job_name": name,
            "time": self.time,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "stderr_to_stdout": True,
            "srun_args": ["--kill-on-bad-exit=1", *cores],
        }


def submit(jobs: Sequence[Job], resources: Resources, folder: Path) -> list[str]:
    """Submit jobs as one array; return their ids, such as "12_0".

    Args:
        jobs: at least one.
        resources: of each.
        folder: of submitit's files and what the jobs print.

    Raises:
        UserError: if submitit or SLURM's commands are missing, or sbatch refuses the jobs.
    """
    try:
        with requirement("submitit", SUBMITIT):
            import submitit
            from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ValueError as error:
        raise UserError(f"hydra/launcher: slurm needs submitit: {error}") from error
    if missing := [name for name in ("sbatch", "srun", "scontrol") if shutil.which(name) is None]:
        raise UserError(
            f"hydra/launcher: slurm, but this machine has no {', '.join(missing)}; call it where SLURM's commands are, "
            "or leave hydra/launcher out"
        )
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(**resources.submitits(folder.parent.name))
    try:
        submitted = executor.map_array(become, [arguments_of(job) for job in jobs])
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"hydra.launcher: sbatch refuses the jobs: {str(error).strip()}") from error
    for job, one in zip(jobs, submitted, strict=True):
        job.console = Path(one.paths.stdout)
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
