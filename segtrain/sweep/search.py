"""The steps of the sweep command: what is searched with which overrides, checked, and who runs it."""

import dataclasses
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import find_problems
from segtrain.config.schema import SweepConfig, TrainConfig
from segtrain.config.wording import reword
from segtrain.errors import UserError
from segtrain.sweep.samplers import SamplerSettings
from segtrain.sweep.slots import in_slot, slots_of
from segtrain.sweep.space import Space, Value, parse_space
from segtrain.sweep.storage import local_url, open_search
from segtrain.sweep.study import Search
from segtrain.sweep.worker import Worker

log = logging.getLogger("segtrain")

OWN = {field.name for field in dataclasses.fields(SweepConfig)} - {
    field.name for field in dataclasses.fields(TrainConfig)
}


@dataclass(frozen=True)
class Plan:
    """A search as it was asked for.

    Attributes:
        cfg: the command's resolved config.
        space: what is searched.
        overrides: of every trial's train command.
        objectives: {name in metrics.json: "max" or "min"}.
    """

    cfg: dict[str, Any]
    space: Space
    overrides: tuple[str, ...]
    objectives: dict[str, str]


def make_plan(cfg: dict[str, Any], overrides: Sequence[str]) -> Plan:
    """Return the plan of a config.

    Args:
        cfg: what `check_keys` returned.
        overrides: the command's, as they were typed.

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
    space = parse_space(cfg["sweep"]["space"] or {})
    objectives = _objectives(cfg)
    if len(objectives) > 1 and cfg["sweep"]["pruner"] != "none":
        raise UserError(
            f"sweep.pruner: {cfg['sweep']['pruner']}, and with {len(objectives)} objectives no trial is worse by one "
            "score; give sweep.pruner=none"
        )
    return Plan(cfg, space, tuple(trial_overrides(overrides, space)), objectives)


def _objectives(cfg: dict[str, Any]) -> dict[str, str]:
    given, policy = cfg["sweep"]["objectives"], cfg["checkpoint"]
    if given is None:
        return {policy["monitor"]: policy["mode"]}
    if not isinstance(given, dict) or not given or not set(given.values()) <= {"max", "min"}:
        raise UserError(f"sweep.objectives: {given!r} is no {{NAME: max or min}}, such as {{val/miou: max}}")
    from segtrain.metrics.scores import score_names

    known = [f"val/{name}" for name in ("loss", *score_names(cfg["dataset"]["class_names"] or []))]
    known += ["train/epoch_loss", "perf/images_per_second"]
    if unknown := [name for name in given if name not in known and not name.startswith("val/iou/")]:
        raise UserError(f"sweep.objectives: no run logs {unknown[0]!r} (has: {', '.join(known[:6])}, ...)")
    return dict(given)


def trial_overrides(overrides: Sequence[str], space: Space) -> Iterator[str]:
    """Yield the overrides that are the trials' and not the search's own.

    Raises:
        UserError: for one that gives a searched parameter, or a trial's own folder, a value.
    """
    searched = {parameter.key for parameter in space.parameters}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in searched:
            raise UserError(f"{key}: it is searched, and {override!r} gives it a value; leave one out")
        if key in ("seed", "test"):
            continue  # each training's own
        if key.split(".")[0].split("/")[0] not in OWN and not key.startswith("hydra"):
            yield override


def check_trials(plan: Plan, *, samples: int = 5) -> None:
    """Compose and check what trials would train, for every choice and some values of the space.

    Raises:
        UserError: with the problems of the first that has any; the parameters that made it are named.
    """
    for values in _samples(plan.space, samples):
        overrides = plan.space.overrides(values)
        try:
            cfg = hydra.compose("train", overrides=[*plan.overrides, *overrides])
            config = check_keys(cfg, TrainConfig)
            config["trainer"] = in_slot(config["trainer"], plan.cfg["gpus_per_trial"])
            problems = find_problems(config, plain=plain_config(cfg))
        except HydraException as error:
            raise UserError(f"sweep.space: {' '.join(overrides)}: {reword(error, error.__cause__)}") from error
        if problems:
            raise UserError(f"sweep.space: {' '.join(overrides)}: {'; '.join(problems)}")


def _samples(space: Space, count: int) -> Iterator[dict[str, Value]]:
    """Yield the values of some trials, every choice of every parameter among them."""
    generator = random.Random(0)
    choices = [
        (parameter.key, str(choice))
        for parameter in space.parameters
        if isinstance(parameter.distribution, CategoricalDistribution)
        for choice in parameter.distribution.choices
    ]
    for fixed in [*choices, *[("", "")] * count]:
        yield space.draw(partial(_value, fixed, generator))


def _value(fixed: tuple[str, str], generator: random.Random, key: str, distribution: BaseDistribution) -> Value:
    if key == fixed[0]:
        return fixed[1]
    if isinstance(distribution, CategoricalDistribution):
        return str(generator.choice(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return generator.choice([distribution.low, distribution.high])


def open_study(plan: Plan, folder: Path) -> Search:
    """Return the study, on the storage of the config or in a file of the folder."""
    cfg, sweep = plan.cfg, plan.cfg["sweep"]
    settings = SamplerSettings(
        sampler=sweep["sampler"],
        pruner=sweep["pruner"],
        startup_trials=sweep["startup_trials"],
        warmup=sweep["warmup"],
        seed=cfg["seed"],
    )
    return open_search(
        cfg["storage"] or local_url(folder),
        cfg["study"],
        space=plan.space,
        objectives=plan.objectives,
        overrides=plan.overrides,
        settings=settings,
        n_trials=cfg["n_trials"],
        retries=cfg["retries"],
    )


def make_worker(plan: Plan, study: Search, folder: Path) -> Worker:
    """Return what runs trials on this machine."""
    cfg = plan.cfg
    return Worker(
        study,
        folder,
        overrides=plan.overrides,
        slots=slots_of(cfg),
        seeds=range(cfg["seed"], cfg["seed"] + cfg["seeds"]),
        objectives=plan.objectives,
        retries=cfg["retries"],
    )
