"""How are the next values drawn, and which trials end early?"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from segtrain.config.suggest import did_you_mean, listed
from segtrain.errors import UserError, requirement
from segtrain.sweep.ranges import Value
from segtrain.sweep.space import Space, choices_of

log = logging.getLogger("segtrain")

CMAES = "cmaes>=0.12"
SAMPLERS = ("tpe", "random", "grid", "qmc", "cmaes")
PRUNERS = ("median", "halving", "hyperband", "none")


@dataclass(frozen=True)
class SamplerSettings:
    """Which sampler and pruner.

    Attributes:
        sampler: tpe, random, grid, qmc or cmaes.
        pruner: median, halving, hyperband or none.
        startup_trials: drawn at random before the sampler learns, and completed before any is pruned.
        warmup: epochs of a trial before which it is not pruned.
        seed: of the draws.
        epochs: of a trial that is not pruned; None where it ends by steps.
    """

    sampler: str
    pruner: str
    startup_trials: int
    warmup: int
    seed: int
    epochs: int | None = None


def setting_problems(settings: SamplerSettings, space: Space, *, objectives: int) -> list[str]:
    """Return a sentence for every setting that there is not, or that does not fit the space or the objectives.

    Args:
        settings: of sampler and pruner.
        space: what is searched.
        objectives: how many.
    """
    problems = []
    for key, value, known in (("sampler", settings.sampler, SAMPLERS), ("pruner", settings.pruner, PRUNERS)):
        if value not in known:
            problems.append(f"sweep.{key}: there is no {value!r}.{did_you_mean(value, known)} (has: {listed(known)})")
    if settings.startup_trials < 1:
        problems.append(f"sweep.startup_trials: {settings.startup_trials} is not a positive number")
    if settings.warmup < 0:
        problems.append(f"sweep.warmup: {settings.warmup} is negative; give epochs, 0 for none")
    if objectives > 1 and settings.pruner in PRUNERS[:-1]:
        problems.append(
            f"sweep.pruner: {settings.pruner}, and with {objectives} objectives no trial is worse by one score; give "
            "sweep.pruner=none"
        )
    if objectives > 1 and settings.sampler == "cmaes":
        problems.append(f"sweep.sampler: cmaes has one objective, and here are {objectives}; give sweep.sampler=tpe")
    return problems + _number_problems(settings.sampler, space)


def _number_problems(sampler: str, space: Space) -> list[str]:
    """Refuse samplers of numbers for a space that has too few, and name the parameters that they draw at random."""
    if sampler == "cmaes":
        needed, searched = 2, {p.name for p in space.parameters if not p.when and not choices_of(p)}
    elif sampler == "qmc":
        needed, searched = 1, set(_sequence_of(space))
    else:
        return []
    if (count := len(searched)) < needed:
        return [
            f"sweep.sampler: {sampler} searches numbers that every trial has, {needed} or more, and sweep.space has "
            f"{count}; give sweep.sampler=tpe, or ranges or intervals without a condition"
        ]
    if by_chance := [p.name for p in space.parameters if p.name not in searched]:
        log.info(f"{sampler} does not search {', '.join(by_chance)}: drawn at random")
    return []


def _sequence_of(space: Space) -> dict[str, BaseDistribution]:
    """Return those of the parameters that every trial has which Optuna's qmc can search; before Optuna 5 no choices."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    study.tell(study.ask({p.name: p.distribution for p in space.parameters if p.when is None}), 0.0)
    return QMCSampler().infer_relative_search_space(study, study.trials[0])


def make_sampler(settings: SamplerSettings, space: Space, *, seed: int) -> BaseSampler:
    """Return Optuna's sampler.

    Raises:
        UserError: if it cannot search this space.
    """
    makers: dict[str, Callable[[], BaseSampler]] = {
        # several workers draw at the same time: `constant_liar` keeps them apart
        "tpe": lambda: optuna.samplers.TPESampler(
            n_startup_trials=settings.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        # all workers, and later calls, must number the points alike, and take the next ones of one sequence
        "grid": lambda: Grid(space.grid(), seed=0),
        "qmc": lambda: Sobol(_sequence_of(space), seed=settings.seed, own_seed=seed),
        "cmaes": lambda: _cmaes(settings, seed=seed),
    }
    return makers[settings.sampler]()


class Grid(GridSampler):
    """Optuna's grid without its end: that stops `Study.optimize`, which is not used here, and fails elsewhere."""

    def after_trial(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing; a search has as many trials as the grid has points."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Give a trial its point, also one that was lost while it drew its values: Optuna has none for it."""
        super().before_trial(study, trial)
        fixed = trial.system_attrs.get("fixed_params", self._search_space)
        if "grid_id" not in trial.system_attrs and not fixed.keys() >= self._search_space.keys():
            for key, value in (("search_space", self._search_space), ("grid_id", self._point(study, trial, fixed))):
                study._storage.set_trial_system_attr(trial._trial_id, key, value)

    def _point(self, study: Study, trial: FrozenTrial, fixed: Mapping[str, Value]) -> int:
        """Return the number of the point that a trial had before it was lost, else of one with its values.

        That is a point which no other trial has, if there is any.
        """
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        lost = [other for other in trials if other.number == trial.user_attrs.get("again")]
        if lost and "grid_id" in lost[0].system_attrs:
            return int(lost[0].system_attrs["grid_id"])
        points = [dict(zip(self._param_names, values, strict=True)) for values in self._all_grids]
        like = [number for number, point in enumerate(points) if fixed.items() <= point.items()]
        return min(set(like) & set(self._get_unvisited_grid_ids(study)) or like)


class Sobol(QMCSampler):
    """Optuna's qmc, whose workers share one sequence, and draw what is not in it each by itself.

    Optuna's own has in it what the first trials had, and draws those at random.

    Args:
        space: {name: distribution} of the sequence.
        seed: of the sequence, the same for all workers.
        own_seed: of the other parameters, each worker's own.
    """

    def __init__(self, space: dict[str, BaseDistribution], *, seed: int, own_seed: int) -> None:
        others = optuna.samplers.RandomSampler(seed=own_seed)
        super().__init__(scramble=True, seed=seed, independent_sampler=others, warn_independent_sampling=False)
        self._space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters of the sequence."""
        return self._space


def _cmaes(settings: SamplerSettings, *, seed: int) -> BaseSampler:
    with requirement("cmaes", CMAES, error=UserError):
        import cmaes  # noqa: F401
    return optuna.samplers.CmaEsSampler(
        n_startup_trials=settings.startup_trials, seed=seed, warn_independent_sampling=False
    )


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Value:
    """Return the sampler's value of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return str(trial.suggest_categorical(name, distribution.choices))
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def make_pruner(settings: SamplerSettings) -> BasePruner:
    """Return Optuna's pruner, of the scores of validations by their epoch.

    Halving and hyperband count epochs: their first look is after `warmup`, and hyperband's brackets end at a whole
    trial's. Both look at a share of the trials that got as far, whatever `startup_trials` says.
    """
    makers: dict[str, Callable[[], BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(
            n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup
        ),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, settings.warmup)),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=max(1, settings.warmup), max_resource=settings.epochs or "auto"
        ),
    }
    return makers[settings.pruner]()
