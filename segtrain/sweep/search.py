"""The steps of the sweep command: what is searched with which overrides, checked, and who runs it."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from segtrain.config.check import report
from segtrain.config.searched import OWN
from segtrain.errors import UserError
from segtrain.jobs import TYPED
from segtrain.sweep.checks import check
from segtrain.sweep.combinations import combinations
from segtrain.sweep.launcher import check_launcher, resources_of, warn_of_sqlite
from segtrain.sweep.samplers import SamplerSettings, setting_problems
from segtrain.sweep.slots import slots_of
from segtrain.sweep.slurm import SlurmWorkers
from segtrain.sweep.space import Space
from segtrain.sweep.storage import local_url, open_search
from segtrain.sweep.study import Search
from segtrain.sweep.worker import Worker
from segtrain.sweep.worker_job import JobWorker, in_worker_job
from segtrain.sweep.written_space import left_out, parse_space

log = logging.getLogger("segtrain")

OF_GRIDS = ("hydra.sweep", "hydra.launcher", "hydra/launcher", "hydra/sweeper")


@dataclass(frozen=True)
class Plan:
    """A search as it was asked for.

    Attributes:
        cfg: the command's resolved config.
        space: what is searched.
        overrides: of every trial's train command.
        objectives: {name in metrics.json: "max" or "min"}.
        settings: of sampler and pruner.
        n_trials: in all; no more than the space has combinations.
        config_dirs: folders of the user's YAML files, for trials too.
    """

    cfg: dict[str, Any]
    space: Space
    overrides: tuple[str, ...]
    objectives: dict[str, str]
    settings: SamplerSettings
    n_trials: int
    config_dirs: tuple[str, ...] = ()


def make_plan(cfg: dict[str, Any], overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> Plan:
    """Return the plan of a config.

    Args:
        cfg: what `check_keys` returned.
        overrides: the command's, with all ranges in one of `sweep.ranges`.
        config_dirs: folders of the user's YAML files.

    Raises:
        UserError: naming the key that is wrong.
    """
    for key in ("n_trials", "seeds"):
        if cfg[key] < 1:
            raise UserError(f"{key}: {cfg[key]} is not a positive number")
    if cfg["retries"] < 0:
        raise UserError(f"retries: {cfg['retries']} is negative; give 0 or more")
    if cfg["resume"] is not None:
        raise UserError("resume: a search goes on by its own command, and its trials with it; leave it out")
    check_launcher(cfg, overrides)
    words, typed = cfg["sweep"]["space"] or {}, cfg["sweep"]["ranges"]
    space = parse_space(words, typed)
    for line in left_out(words, typed, space):
        log.info(line)
    objectives, settings = _objectives(cfg), _settings(cfg)
    report(
        setting_problems(settings, space, objectives=len(objectives))
        + _pruning_problems(settings, objectives)
        + _monitor_problems(cfg["checkpoint"], objectives)
    )
    return Plan(
        cfg,
        space,
        tuple(trial_overrides(overrides, space)),
        objectives,
        settings=settings,
        n_trials=_n_trials(cfg["n_trials"], space, grid=settings.sampler == "grid"),
        config_dirs=tuple(config_dirs),
    )


def _n_trials(asked_for: int, space: Space, *, grid: bool) -> int:
    """Return how many trials there are to be: no worker asks for more than there are, nor waits for them."""
    if grid:
        points = math.prod(map(len, space.grid().values()))
    else:
        every = combinations(space)
        points = asked_for if every is None else len(every)
    if points < asked_for:
        log.info(f"n_trials: {asked_for}, and the space has {points} combinations, so the search ends with those")
    return min(asked_for, points)


def _objectives(cfg: dict[str, Any]) -> dict[str, str]:
    given, policy = cfg["sweep"]["objectives"], cfg["checkpoint"]
    if given is None:
        return {policy["monitor"]: policy["mode"]}
    if not isinstance(given, dict) or not given or not set(given.values()) <= {"max", "min"}:
        raise UserError(f"sweep.objectives: {given!r} is no {{NAME: max or min}}, such as {{val/miou: max}}")
    return dict(given)


def _pruning_problems(settings: SamplerSettings, objectives: Mapping[str, str]) -> list[str]:
    """Refuse to prune by what is known at the end only; say where nothing will be pruned."""
    name = next(iter(objectives))
    if settings.pruner == "none" or len(objectives) > 1:
        return []
    if not name.startswith("val/"):
        return [f"sweep.pruner: {settings.pruner}, and {name} is no score of a validation; give sweep.pruner=none"]
    if settings.epochs is not None and settings.epochs <= settings.warmup:
        log.warning(
            f"sweep.warmup: {settings.warmup} epochs, and trials have {settings.epochs}, so none ends early; give less"
        )
    return []


def _monitor_problems(policy: Mapping[str, Any], objectives: Mapping[str, str]) -> list[str]:
    """Refuse one score of the validation by which the best epoch is not chosen: it would be another epoch's."""
    monitored = (policy["monitor"], policy["mode"])
    name, mode = next(iter(objectives.items()))
    if len(objectives) > 1 or not name.startswith("val/") or (name, mode) == monitored:
        return []
    return [
        f"sweep.objectives: {name} ({mode}), and a trial's scores are those of its best epoch by checkpoint.monitor="
        f"{monitored[0]} ({monitored[1]}); give checkpoint.monitor={name} checkpoint.mode={mode}, and no objectives"
    ]


def _settings(cfg: dict[str, Any]) -> SamplerSettings:
    sweep, epochs = cfg["sweep"], cfg["trainer"].get("max_epochs")
    return SamplerSettings(
        sampler=sweep["sampler"],
        pruner=sweep["pruner"],
        startup_trials=sweep["startup_trials"],
        warmup=sweep["warmup"],
        seed=cfg["seed"],
        epochs=epochs if isinstance(epochs, int) and epochs > 0 else None,
    )


def trial_overrides(overrides: Sequence[str], space: Space) -> Iterator[str]:
    """Yield the overrides that are the trials' and not the search's own.

    Raises:
        UserError: for one that gives a searched parameter, or a trial's own folder, a value.
    """
    searched = {parameter.key.lstrip("+") for parameter in space.parameters}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in searched:
            raise UserError(
                f"{key}: it is searched, and {override!r} gives it a value; leave one out (~sweep.space.{key} does "
                f"not search it), or give {key}=choice({value})"
            )
        if key.startswith(OF_GRIDS):
            raise UserError(f"{key}: it is of grids (segtrain train -m), and a search runs its trials itself")
        if key in ("seed", "test"):
            continue  # each training's own
        own = key.split(".")[0].split("/")[0] in OWN or key.startswith("hydra")
        if not own or key == "hydra.searchpath":
            yield override


def user_config_dirs() -> list[str]:
    """Return the folders that the running command was given by --config-dir.

    Raises:
        UserError: for another --config-name, which trials would not have.
    """
    running = HydraConfig.get()
    if running.job.config_name != "sweep":
        raise UserError(
            f"--config-name={running.job.config_name}: trials begin with segtrain's train.yaml; put your settings "
            "into FOLDER/experiment/NAME.yaml and give --config-dir=FOLDER experiment=NAME"
        )
    return [source.path for source in running.runtime.config_sources if source.provider == "command-line"]


def check_trials(plan: Plan) -> None:
    """Compose, check and build what trials would train, for every choice and the ends of every range.

    Raises:
        UserError: with all problems, and the values that make them.
    """
    per_trial = plan.cfg["gpus_per_trial"]
    check(plan.space, plan.overrides, objectives=plan.objectives, gpus_per_trial=per_trial)


def open_study(plan: Plan, folder: Path) -> Search:
    """Return the study, on the storage of the config or in a file of the folder."""
    cfg = plan.cfg
    return open_search(
        cfg["storage"] or local_url(folder),
        cfg["study"],
        space=plan.space,
        objectives=plan.objectives,
        overrides=plan.overrides,
        settings=plan.settings,
        n_trials=plan.n_trials,
        retries=cfg["retries"],
        seeds=_seeds(cfg),
    )


def _seeds(cfg: Mapping[str, Any]) -> range:
    return range(cfg["seed"], cfg["seed"] + cfg["seeds"])


def make_worker(plan: Plan, study: Search, folder: Path) -> Worker:
    """Return what runs trials on this machine, or has SLURM's jobs run them."""
    cfg = plan.cfg
    shared: dict[str, Any] = {
        "overrides": [*(f"--config-dir={path}" for path in plan.config_dirs), *plan.overrides],
        "seeds": _seeds(cfg),
        "objectives": plan.objectives,
        "retries": cfg["retries"],
    }
    if cfg["launcher"] == "slurm":
        warn_of_sqlite(cfg["storage"], folder)
        jobs = {"count": cfg["slurm"]["workers"], "resources": resources_of(cfg)}
        return SlurmWorkers(study, folder, arguments=TYPED, **jobs, **shared)
    return (JobWorker if in_worker_job() else Worker)(study, folder, slots=slots_of(cfg), **shared)
