"""Submitting jobs to SLURM through submitit, those of a search and of a grid alike, and its refusals as sentences."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtrain.errors import UserError, requirement

if TYPE_CHECKING:
    from submitit import Job

SUBMITIT = "submitit>=1.5.2,<2"
SAVE = 90  # seconds before a job's end at which it is told to save
# what the jobs rely on, by sbatch's names
OURS = ("array", "error", "no-requeue", "ntasks", "open-mode", "output", "requeue", "signal")
# a key of ours for each of sbatch's
KEYS = {
    "partition": "partition",
    "time": "time",
    "nodes": "nodes",
    "ntasks-per-node": "tasks_per_node",
    "gpus-per-node": "gpus_per_node",
    "cpus-per-task": "cpus_per_task",
    "mem": "memory",
}
ONE_TASK = ("nodes", "tasks_per_node")  # of a search's jobs; who submits a grid says them
NODES = {"slurm": "launcher", "hydra.launcher": "hydra/launcher"}  # where the settings stand: what chooses SLURM


@dataclass(frozen=True)
class Resources:
    """What each job asks of SLURM; see `configs/sweep.yaml` and `configs/hydra/launcher/slurm.yaml`.

    Attributes:
        node: of the configuration in which the settings stand, for sentences: one of `NODES`.
        time: in minutes.
        memory: of each machine, such as 32GB.
        max_parallel: jobs of an array at a time.
        sbatch: further options of sbatch.
        setup: shell lines before each job.
    """

    node: str
    partition: str | None = None
    time: int = 1440
    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: str | None = None
    max_parallel: int | None = None
    sbatch: Mapping[str, Any] | None = field(default_factory=dict)
    setup: Sequence[str] | None = ()

    def check(self) -> None:
        """Refuse what no job can have, and what the jobs have of their own.

        Raises:
            UserError: naming the key.
        """
        for key in ("time", "nodes", "tasks_per_node", "cpus_per_task", "max_parallel"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"{self.node}.{key}: {value!r} is not a positive whole number")
        gpus = self.gpus_per_node
        if gpus is not None and (not isinstance(gpus, int) or gpus < 0):
            raise UserError(f"{self.node}.gpus_per_node: {gpus!r} is no number of GPUs; give 0 for none")
        if self.memory is not None and not re.fullmatch("[1-9][0-9]*[KMGT]B?", str(self.memory), flags=re.IGNORECASE):
            raise UserError(f"{self.node}.memory: {self.memory!r} is no amount with its unit, such as 32GB")
        for key in self._dashed():
            if key in OURS or (self.node == "slurm" and KEYS.get(key) in ONE_TASK):
                raise UserError(f"{self.node}.sbatch.{key}: the jobs rely on their own; leave it out")
            if key in KEYS:
                raise UserError(f"{self.node}.sbatch.{key}: give it as {self.node}.{KEYS[key]}")

    def _dashed(self) -> dict[str, Any]:
        return {str(key).replace("_", "-"): value for key, value in (self.sbatch or {}).items()}

    def submitits(self, name: str) -> dict[str, Any]:
        """Return them as submitit takes them."""
        given = {
            "partition": self.partition,
            "gpus_per_node": self.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem": self.memory,
            "array_parallelism": self.max_parallel,
            "setup": list(self.setup or ()) or None,
        }
        # srun does not take the cores over from sbatch since SLURM 22.05
        cores = [] if self.cpus_per_task is None else [f"--cpus-per-task={self.cpus_per_task}"]
        return {
            **{key: value for key, value in given.items() if value is not None},
            "job_name": name,
            "time": self.time,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "signal_delay_s": SAVE,
            "stderr_to_stdout": True,
            "srun_args": ["--kill-on-bad-exit=1", *cores],
            "additional_parameters": {"requeue": True, **self._dashed()},
        }


class Submitter:
    """Submits jobs that call functions of modules.

    Args:
        folder: shared by the machines; the jobs' scripts and logs lie there.
        resources: of each job.
        name: of the jobs.

    Raises:
        UserError: if submitit or SLURM is not installed, or a setting cannot be.
    """

    def __init__(self, folder: Path, resources: Resources, *, name: str) -> None:
        resources.check()
        choice = NODES[resources.node]
        try:
            with requirement("submitit", SUBMITIT):
                from submitit import SlurmExecutor
        except ValueError as error:
            raise UserError(f"{choice}: slurm submits its jobs through submitit; {error}") from error
        commands = ("sbatch", "srun", "scontrol", "scancel")
        if missing := [command for command in commands if shutil.which(command) is None]:
            raise UserError(
                f"{choice}: slurm, and this machine has no {', '.join(missing)}; call this where jobs are submitted, "
                f"or leave {choice}=slurm out"
            )
        self.node = resources.node
        self.executor = SlurmExecutor(folder)
        self.executor.update_parameters(**resources.submitits(name))

    def submit(self, function: Callable[..., object], *arguments: object) -> str:
        """Submit one job and return its id.

        Raises:
            UserError: with what sbatch says, if it refuses.
        """
        with self._refusals():
            return str(self.executor.submit(function, *arguments).job_id)

    def submit_array(self, function: Callable[..., object], arguments: Sequence[object]) -> "list[Job[Any]]":
        """Submit an array of jobs that call a function with one argument each, and return submitit's.

        Raises:
            UserError: with what sbatch says, if it refuses.
        """
        with self._refusals():
            return list(self.executor.map_array(function, list(arguments)))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with _own_environment():
                yield
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).strip().splitlines()]
            raise UserError(f"{self.node}: sbatch takes no such job ({'; '.join(lines)}){_partitions()}") from error


@contextmanager
def _own_environment() -> Iterator[None]:
    """Hide this process's run, and the job that it is in, from the job that it submits."""
    in_job = "SLURM_JOB_ID" in os.environ
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name == "SEGTRAIN_RUN_ID" or (in_job and name.startswith("SLURM_") and name != "SLURM_CONF")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _partitions() -> str:
    """Return which partitions there are, as the end of a sentence."""
    try:
        done = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    names = sorted(set(done.stdout.split()))
    return f"; partitions: {', '.join(names)}" if names else ""
