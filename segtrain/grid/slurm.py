"""Running the jobs of a grid as the tasks of a SLURM job array."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from segtrain.clusters.submit import Resources
from segtrain.errors import UserError
from segtrain.grid.array import submit, wait_for
from segtrain.grid.launcher import GridLauncher
from segtrain.grid.local import refuse
from segtrain.grid.plan import plan
from segtrain.grid.record import JOBS, Job
from segtrain.logs import start_logging
from segtrain.states import FAILED
from segtrain.trial_record import withdraw

log = logging.getLogger("segtrain")


class SlurmLauncher(GridLauncher):
    """Submits every job as an ordinary train command of its own, and waits for all.

    Args:
        wait: False to leave once they are submitted.
        poll: seconds between two questions to SLURM.
        resources: fields of `Resources`.
    """

    __module__ = "hydra_plugins.segtrain"  # Hydra takes plugins from there only

    def __init__(self, *, wait: bool, poll: float, **resources: Any) -> None:
        plain = OmegaConf.to_container(OmegaConf.create(resources), resolve=True)
        self.resources = Resources("hydra.launcher", **plain)  # type: ignore[arg-type]
        self.wait = wait
        self.poll = poll

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit all jobs that can run, and wait; what became of them is in their records.

        Raises:
            UserError: if they cannot be submitted.
            KeyboardInterrupt: by Ctrl-C; the jobs go on.
        """
        start_logging(None)
        self.resources.check()
        if not isinstance(self.poll, int | float) or self.poll <= 0:
            raise UserError(f"hydra.launcher.poll: {self.poll!r} is not a positive number of seconds")
        jobs = plan(self.context.config_loader, self.config, job_overrides, initial_job_idx)
        folder = jobs[0].folder.parent
        if ready := [job for job in jobs if job.state != FAILED]:
            ids = self._submit(ready, folder / "slurm")
            array = ids[0].partition("_")[0]
            log.info(f"submitted {len(ids)} jobs to SLURM as {array} (squeue --job={array} shows them)")
        JOBS.extend(jobs)
        for job in jobs:
            if job.state == FAILED:
                refuse(job)
        if ready:
            self._wait(dict(zip(ids, ready, strict=True)), array, str(folder))
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def _submit(self, jobs: Sequence[Job], folder: Path) -> list[str]:
        """Submit jobs, which are known as not run until they are; return their ids."""
        try:
            for job in jobs:
                job.await_turn()
            return submit(jobs, self.resources, folder)
        except BaseException as error:
            for job in jobs:
                withdraw(job.folder)  # the command may be given again
            if isinstance(error, KeyboardInterrupt):
                log.warning("SLURM may have taken the jobs already (squeue --me shows them, scancel ends them)")
            raise

    def _wait(self, jobs: dict[str, Any], array: str, folder: str) -> None:
        leave = (
            f"the jobs go on by themselves: squeue --job={array} shows them, scancel {array} ends them, "
            f"segtrain results {folder} shows what they reach"
        )
        unknown = list(jobs.values())  # no table of what is not known yet
        if not self.wait:
            JOBS[:] = [job for job in JOBS if job not in unknown]
            log.info(leave)
            return
        try:
            wait_for(jobs, poll=self.poll)
        except KeyboardInterrupt:
            JOBS[:] = [job for job in JOBS if job not in unknown]
            log.info(leave)
            raise
