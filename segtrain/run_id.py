"""One id for a run, the same in all its processes, whoever launches them."""

import os
import secrets
from collections.abc import Mapping, MutableMapping
from datetime import datetime

from segtrain.clusters.slurm import in_shell
from segtrain.errors import UserError

VARIABLE = "SEGTRAIN_RUN_ID"
AGAIN = "SEGTRAIN_AGAIN"  # "1" in a trial that a search starts again, which goes on in its folder


def ensure_run_id(environment: MutableMapping[str, str] = os.environ) -> str:
    """Set the run's id if it is not set, and return it.

    torchrun's rendezvous id and SLURM's job id are the same on every machine of a run; a process that a user
    starts, also in a shell inside a SLURM job, makes an id from the time and hands it to the processes it starts.

    Raises:
        UserError: if torchrun was given no id: its ranks could not agree on a folder.
    """
    if VARIABLE not in environment:
        environment[VARIABLE] = _new_id(environment)
    return environment[VARIABLE]


def global_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return this process's rank before the Trainer exists: torchrun's, SLURM's, or Lightning's own launcher's."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if variable in environment:
            return int(environment[variable])
    return 0


def in_slurm(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this is a task of a SLURM job, whose machine may be taken away and given back."""
    return "SLURM_JOB_ID" in environment and "SLURM_PROCID" in environment


def requeued(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this command is run once more in the same folder.

    SLURM does so with a job, under the same id, after it took its machine away, and a search with a trial.
    """
    if environment.get(AGAIN) == "1":
        return True
    return in_slurm(environment) and int(environment.get("SLURM_RESTART_COUNT") or 0) > 0


def _new_id(environment: MutableMapping[str, str]) -> str:
    if (torchrun := environment.get("TORCHELASTIC_RUN_ID")) is not None:
        if torchrun == "none":
            raise UserError(
                "torchrun: this run has no id, so its processes cannot agree on a folder; "
                "add --standalone (one machine) or --rdzv-id=NAME (several) before -m"
            )
        return torchrun
    if in_slurm(environment) and not in_shell(environment):
        job = environment["SLURM_JOB_ID"]
        step = environment.get("SLURM_STEP_ID")
        return f"slurm-{job}" + (f"-{step}" if step else "")
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
