"""Submitting jobs to SLURM through submitit, and its refusals as sentences."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtrain.errors import UserError, requirement

if TYPE_CHECKING:
    from submitit import SlurmExecutor

SUBMITIT = "submitit>=1.5.2,<2"
SAVE = 90  # seconds before a job's end at which it is told to save
# what the jobs rely on, by sbatch's names
OURS = ("array", "error", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "requeue", "signal")
# a key of the node `slurm` for each of sbatch's
KEYS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "minutes",
    "gpus-per-node": "gpus",
    "cpus-per-task": "cpus",
    "mem": "memory",
}


def make_executor(folder: Path, settings: Mapping[str, Any], *, name: str, gpus: int) -> "SlurmExecutor":
    """Return what submits jobs of one task each.

    Args:
        folder: shared by the machines; the jobs' scripts and logs lie there.
        settings: partition, minutes, cpus, memory (GB), account, qos, setup and sbatch, as in the configuration.
        name: of the jobs.
        gpus: of each job.

    Raises:
        UserError: if submitit or SLURM is not installed, or a setting cannot be.
    """
    _check(settings)
    try:
        with requirement("submitit", SUBMITIT):
            from submitit import SlurmExecutor
    except ValueError as error:
        raise UserError(f"launcher: slurm submits its jobs through submitit; {error}") from error
    if missing := [program for program in ("sbatch", "srun", "scontrol", "scancel") if shutil.which(program) is None]:
        raise UserError(
            f"launcher: slurm, and this machine has no {missing[0]}; call this where jobs are submitted, or give "
            "launcher=local"
        )
    executor = SlurmExecutor(folder)
    optional = {
        "partition": settings["partition"],
        "account": settings["account"],
        "qos": settings["qos"],
        "mem": f"{settings['memory']}GB" if settings["memory"] else None,
        "gpus_per_node": gpus or None,
        "setup": list(settings["setup"] or []) or None,
    }
    executor.update_parameters(
        job_name=name,
        time=settings["minutes"],
        ntasks_per_node=1,
        cpus_per_task=settings["cpus"],
        srun_args=[f"--cpus-per-task={settings['cpus']}"],  # which srun no longer takes from the job
        signal_delay_s=SAVE,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **_dashed(settings["sbatch"])},
        **{key: value for key, value in optional.items() if value is not None},
    )
    return executor


def _dashed(sbatch: Mapping[str, Any] | None) -> dict[str, Any]:
    return {str(key).replace("_", "-"): value for key, value in (sbatch or {}).items()}


def _check(settings: Mapping[str, Any]) -> None:
    for key in ("minutes", "cpus", "memory"):
        if settings[key] is not None and settings[key] <= 0:
            raise UserError(f"slurm.{key}: {settings[key]} is not a positive number")
    for key in _dashed(settings["sbatch"]):
        if key in KEYS:
            raise UserError(f"slurm.sbatch.{key}: give it as slurm.{KEYS[key]}")
        if key in OURS:
            raise UserError(f"slurm.sbatch.{key}: the jobs rely on their own; leave it out")


def submit(executor: "SlurmExecutor", function: Callable[..., object], *arguments: object) -> str:
    """Submit a job that calls a function of a module, and return its id.

    Raises:
        UserError: with what sbatch says, if it refuses.
    """
    from submitit.core.utils import FailedJobError

    try:
        with _own_environment():
            return str(executor.submit(function, *arguments).job_id)
    except FailedJobError as error:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()]
        raise UserError(f"slurm: sbatch takes no such job ({'; '.join(lines)}){_partitions()}") from error


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
