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
from segtrain.config.wording import null_group_problem, reword
from segtrain.errors import UserError
from segtrain.grid.folders import check_folders
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
        UserError: if none can run, and all for the same reason, or the folder of one is not its own.
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
    check_folders(jobs)
    return jobs


def _check(loader: ConfigLoader, config: DictConfig, job: Job) -> Job:
    """Return the job with its folder and its score, or as one that has failed."""
    try:
        _refuse_words(job.overrides)
        composed = compose(loader, config, job)
        with _as_hydras(composed):
            folder = Path(os.path.abspath(str(composed.hydra.sweep.dir)), str(composed.hydra.sweep.subdir))
            job = replace(job, folder=folder)
            with read_write(composed), open_dict(composed):
                del composed["hydra"]
            values = check_keys(composed, TrainConfig)
        policy, exact = values["checkpoint"], values["deterministic"] == "exact"
        return replace(job, monitor=policy["monitor"], mode=policy["mode"], exact=exact)
    except UserError as error:
        return replace(job, state=FAILED, reason=str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return replace(job, state=FAILED, reason=reword(error, error.__cause__))


def _refuse_words(overrides: Sequence[str]) -> None:
    """Refuse what Hydra would fail at in words of its own, and what a grid's jobs do not do.

    Raises:
        UserError: naming the override.
    """
    for override in overrides:
        if problem := null_group_problem(override):
            raise UserError(problem)
        key, _, value = override.lstrip("+").partition("=")
        if key == "test" and (value := value.lower()) != "false":  # Hydra writes it anew, as True
            raise UserError(
                f"test={value}: the jobs of a grid are scored on the validation split alone, and the test split is for "
                "the best of them; leave it out (the grid's end has the command that tests the best)"
            )


def compose(loader: ConfigLoader, config: DictConfig, job: Job) -> DictConfig:
    """Return a job's config, with Hydra's own settings.

    It leaves the test split, which is for the best job alone, to whoever goes on with the job too.
    """
    composed = loader.load_sweep_config(config, list(job.overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = job.number
        composed.test = False
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
