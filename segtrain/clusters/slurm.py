"""What SLURM says of this process: its place among the tasks that `srun` started, and its job once more."""

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger("segtrain")

START = "srun --kill-on-bad-exit=1 segtrain train trainer=slurm ..."


@dataclass(frozen=True)
class Task:
    """One of the processes that `srun` started.

    Args:
        rank: its number among all of them.
        count: how many there are.
        local_rank: its number among those of its machine.
        neighbours: how many there are on its machine, itself among them.
        machines: the list of machines as SLURM writes it, such as `gpu[01-04,07],login1`.
        cores: of its machine, those that are its share; None if SLURM does not say.
        gpus: those that SLURM gives to the tasks of its machine together; None where it keeps no account of GPUs.
    """

    rank: int
    count: int
    local_rank: int
    neighbours: int
    machines: str
    cores: int | None = None
    gpus: int | None = None


def this_task(environment: Mapping[str, str] = os.environ) -> Task | None:
    """Return this process's place; None if `srun` did not start it, or started a launcher (torchrun) that did.

    The variables of the step count: those of the job are in its shells too, where nothing was started.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment or "TORCHELASTIC_RUN_ID" in environment:
        return None
    neighbours = tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[int(environment["SLURM_NODEID"])]
    cores, gpus = environment.get("SLURM_CPUS_ON_NODE"), environment.get("SLURM_GPUS_ON_NODE")
    return Task(
        rank=int(environment["SLURM_PROCID"]),
        count=int(environment["SLURM_STEP_NUM_TASKS"]),
        local_rank=int(environment["SLURM_LOCALID"]),
        neighbours=neighbours,
        machines=environment["SLURM_STEP_NODELIST"],
        cores=None if cores is None else max(1, int(cores) // neighbours),
        gpus=None if gpus is None else int(gpus),
    )


def tasks_per_node(text: str) -> list[int]:
    """Return the tasks of each machine from how SLURM writes them: "2(x3),1" is [2, 2, 2, 1]."""
    counts: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(number)] * int(times or 1)
    return counts


def first_machine(machines: str) -> str:
    """Return the first of a list as SLURM writes it: "gpu[01-04,07],login1" begins with gpu01."""
    first = re.split(r",(?![^\[]*\])", machines)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def in_shell(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this is a user's shell inside a job (`srun --pty`): one task, which starts what it likes."""
    return "SLURM_PTY_PORT" in environment and environment.get("SLURM_STEP_NUM_TASKS") == "1"


def why_no_task(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return why the processes of a run are not the tasks of `srun`; None where they are."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return "torchrun started it"
    if in_shell(environment) and sys.stdin is not None and sys.stdin.isatty():
        return f"it runs in a shell inside job {environment.get('SLURM_JOB_ID')}"
    if this_task(environment) is not None:
        return None
    if "SLURM_JOB_ID" in environment:
        return f"job {environment['SLURM_JOB_ID']} runs it without srun"
    return "it runs outside of any SLURM job"


def requeue_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask SLURM to run this job again, under its own id and so in its own folder; say what came of it.

    A job that SLURM is ending already is left alone: `scontrol requeue` would bring back what `scancel` ended.

    Returns:
        whether SLURM will.
    """
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else environment["SLURM_JOB_ID"]
    try:
        state = re.search(r"\bJobState=(\w+)", _scontrol("show", "job", job))
        if state is not None and state[1] != "RUNNING":
            log.info(f"SLURM is ending job {job} itself ({state[1]}); it is not asked to run it again")
            return False
        _scontrol("requeue", job)
    except (OSError, subprocess.TimeoutExpired, RuntimeError) as error:
        log.error(f"SLURM does not run job {job} again: {error}")
        return False
    log.info(f"SLURM runs job {job} again")
    return True


def _scontrol(*arguments: str) -> str:
    """Return what SLURM's `scontrol` prints.

    Raises:
        RuntimeError: with what it says, if it refuses.
    """
    # SLURM ends a job that it will run again by SIGTERM to all processes, of which scontrol is one; it inherits this
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=30)
    finally:
        signal.signal(signal.SIGTERM, handler)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"scontrol ended with {done.returncode}")
    return done.stdout
