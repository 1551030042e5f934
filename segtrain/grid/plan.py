"""Which jobs has a grid, and which of them cannot run?"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from segtrain.config.check import check_keys
from segtrain.config.schema import TrainConfig
from segtrain.config.wording import reword
from segtrain.errors import UserError
from segtrain.grid.record import Job
from segtrain.states import FAILED


def plan(loader: ConfigLoader, config: DictConfig, batch: Sequence[Sequence[str]], first: int) -> list[Job]:
    """Return the jobs of a grid; those that do not compose, or have keys that there are not, have failed already.

    Args:
        loader: Hydra's.
        config: what all jobs have, with Hydra's own settings.
        batch: the overrides of each job.
        first: its number.

    Raises:
        UserError: if none can run, and all for the same reason.
    """
    shared = set.intersection(*(set(overrides) for overrides in batch)) if len(batch) > 1 else set()
    jobs = []
    for number, overrides in enumerate(batch, start=first):
        differs = tuple(word for word in overrides if word not in shared)
        folder = Path(os.path.abspath(str(config.hydra.sweep.dir)), str(number))
        jobs.append(_check(loader, config, Job(number, folder, tuple(overrides), differs)))
    reasons = {job.reason for job in jobs}
    if len(reasons) == 1 and all(job.state == FAILED for job in jobs):
        raise UserError(reasons.pop())
    return jobs


def _check(loader: ConfigLoader, config: DictConfig, job: Job) -> Job:
    """Return the job with its folder and its score, or as one that has failed."""
    try:
        composed = compose(loader, config, job)
        with _as_hydras(composed):
            folder = Path(os.path.abspath(str(composed.hydra.sweep.dir)), str(composed.hydra.sweep.subdir))
            job = replace(job, folder=folder)
            with read_write(composed), open_dict(composed):
                del composed["hydra"]
            policy = check_keys(composed, TrainConfig)["checkpoint"]
        return replace(job, monitor=policy["monitor"], mode=policy["mode"])
    except UserError as error:
        return replace(job, state=FAILED, reason=str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return replace(job, state=FAILED, reason=reword(error, error.__cause__))


def compose(loader: ConfigLoader, config: DictConfig, job: Job) -> DictConfig:
    """Return a job's config, with Hydra's own settings."""
    composed = loader.load_sweep_config(config, list(job.overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = job.number
    return composed


@contextmanager
def _as_hydras(composed: DictConfig) -> Iterator[None]:
    """Let a config's `${hydra:...}` mean its own settings, as Hydra does while the job runs."""
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(composed)
    try:
        yield
    finally:
        instance.cfg = before
