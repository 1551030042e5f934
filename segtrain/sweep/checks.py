"""Would every trial of a search train? Composed, checked and built without data before the first one."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hydra
import torch
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig

from segtrain import build
from segtrain.adapt import adapt
from segtrain.build.optimization import optimizer_maker
from segtrain.callbacks.metrics_csv import columns
from segtrain.class_weights import resolve_class_weights
from segtrain.config.check import check_keys, plain_config, report
from segtrain.config.problems import find_problems
from segtrain.config.schema import TrainConfig
from segtrain.config.suggest import did_you_mean, listed
from segtrain.config.wording import null_group_problem, reword
from segtrain.cost import COSTS
from segtrain.errors import UserError
from segtrain.sweep.slots import in_slot
from segtrain.sweep.space import Space, by_key
from segtrain.sweep.trial_values import Values, trial_values

Config = dict[str, Any]
Classes = dict[str, dict[str, Any]]  # {a data set's settings: its classes}, which are read off the masks once


def check(space: Space, overrides: Sequence[str], *, objectives: Mapping[str, str], gpus_per_trial: int) -> None:
    """Check what trials would train, with every choice and both ends of every range.

    Args:
        space: what is searched.
        overrides: of every trial's train command.
        objectives: {name in metrics.json: "max" or "min"}.
        gpus_per_trial: on a machine that has any.

    Raises:
        UserError: with all problems; each names the values that make it.
    """
    samples = trial_values(space)
    classes: Classes = {}
    found: dict[str, set[int]] = {}
    for number, values in enumerate(samples):
        given = space.overrides(values)
        for problem in trial_problems(overrides, given, objectives, gpus_per_trial=gpus_per_trial, classes=classes):
            found.setdefault(problem, set()).add(number)
    good = [values for number, values in enumerate(samples) if not any(number in numbers for numbers in found.values())]
    report([_attributed(problem, numbers, samples, good, space) for problem, numbers in found.items()])


def trial_problems(
    overrides: Sequence[str],
    given: Sequence[str],
    objectives: Mapping[str, str],
    *,
    gpus_per_trial: int,
    classes: Classes,
) -> list[str]:
    """Return the problems of one trial.

    Args:
        overrides: of every trial's train command.
        given: those of its searched values.
        objectives: {name in metrics.json: "max" or "min"}.
        gpus_per_trial: on a machine that has any.
        classes: of data sets that were read already.
    """
    cfg, problems = _composed(overrides, list(given))
    if cfg is None:
        return problems
    try:
        values = _with_classes(cfg, check_keys(cfg, TrainConfig), classes)
        problems += objective_problems(objectives, values["dataset"]["class_names"] or [])
        values["trainer"] = in_slot(values["trainer"], gpus_per_trial)
        problems += find_problems(values, plain=plain_config(cfg))
        if not problems:
            problems += _building_problems(values)
    except UserError as error:
        problems.append(str(error))
    return problems


def objective_problems(objectives: Mapping[str, str], class_names: Sequence[str]) -> list[str]:
    """Refuse objectives that no trial logs."""
    known = [name for name in (*columns(class_names), *COSTS) if "/" in name]
    tested = [name for name in objectives if name.startswith("test/")]
    return [
        f"sweep.objectives: {name} is of the test split, which trials leave alone; give val/{name.partition('/')[2]}"
        for name in tested
    ] + [
        f"sweep.objectives: no run logs {name!r}.{did_you_mean(name, known)} (has: {listed(known)})"
        for name in objectives
        if name not in (*known, *tested)
    ]


def _composed(overrides: Sequence[str], given: list[str]) -> tuple[DictConfig | None, list[str]]:
    """Return the trial's config without the values that Hydra refuses, and why; None where it refuses another one."""
    problems = [problem for override in given if (problem := null_group_problem(override))]
    given = [override for override in given if null_group_problem(override) is None]
    while True:
        try:
            return hydra.compose("train", overrides=[*overrides, *given]), problems
        except HydraException as error:
            key = _refused_key(error)
            taken = [override for override in given if override.partition("=")[0].lstrip("+") == key]
            problems.append(reword(error, error.__cause__))
            if not taken:
                return None, problems
            given = [override for override in given if override not in taken]


def _refused_key(error: HydraException) -> str:
    if isinstance(error, MissingConfigException):
        return str(error.missing_cfg_file or "").rpartition("/")[0]
    named = re.search(r"Could not override '(\S+?)'", str(error))
    return named[1].split("@")[0] if named else ""


def _with_classes(cfg: DictConfig, values: Config, classes: Classes) -> Config:
    dataset = values["dataset"]
    if None not in (dataset.get("num_classes"), dataset.get("class_names")):
        return values
    settings = repr(dataset)
    if settings not in classes:
        found = build.complete_classes(cfg, values, TrainConfig)["dataset"]
        classes[settings] = {key: found[key] for key in ("num_classes", "class_names")}
    cfg.dataset.update(classes[settings])
    return check_keys(cfg, TrainConfig)


def _building_problems(values: Config) -> list[str]:
    """Return what constructors refuse: of the loss, and of network and optimizer, whose weights have no data."""
    count = values["dataset"]["num_classes"]
    try:
        build.build_loss(resolve_class_weights(values["loss"], lambda name: [1.0] * count))
        with torch.device("meta"):
            model = build.build_model(values, restore=True)
            adapt(model, values)
            optimizer_maker(values)(model)
    except UserError as error:
        return [str(error)]
    except Exception:  # a user's network that cannot be built without data is the trial's to build
        return []
    return []


def _attributed(
    problem: str, numbers: set[int], samples: Sequence[Values], good: Sequence[Values], space: Space
) -> str:
    """Return the problem with the searched values that make it; nothing is added where all trials have it."""
    key = problem.partition(":")[0]
    samples, good = list(map(by_key, samples)), list(map(by_key, good))
    searched = [number for number, values in enumerate(samples) if key in {name.lstrip("+") for name in values}]
    if numbers >= set(searched or range(len(samples))):
        return f"sweep.space.{problem}" if searched else problem
    failed = [samples[number] for number in sorted(numbers)]
    for values in _subsets(failed[0], problem):
        with_them = [values.items() <= other.items() for other in (*failed, *good)]
        if with_them == [True] * len(failed) + [False] * len(good):
            return _worded(problem, space.overrides(values))
    return _worded(problem, space.overrides(failed[0]))


def _subsets(values: Values, problem: str) -> Iterator[Values]:
    """Yield one or two of the values, those that the problem speaks of first, choices before numbers."""
    named = [item for item in values.items() if item[0].lstrip("+") in problem]
    others = sorted(
        (item for item in values.items() if item not in named), key=lambda item: not isinstance(item[1], str)
    )
    alone = [(item,) for item in [*named, *others]]
    pairs = [(one, other) for one, other in itertools.combinations([*named, *others], 2)]
    about = [chosen for chosen in (*alone, *pairs) if chosen[0] in named]
    yield from map(dict, [*about, *alone, *pairs])


def _worded(problem: str, overrides: Sequence[str]) -> str:
    made_by = " ".join(overrides)
    return f"sweep.space: {problem}" if problem.startswith(f"{made_by}:") else f"sweep.space: with {made_by}: {problem}"
