"""How are the next values drawn, and which trials end early?"""

from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from segtrain.errors import UserError, requirement
from segtrain.sweep.space import Space

CMAES = "cmaes>=0.12"


@dataclass(frozen=True)
class SamplerSettings:
    """Which sampler and pruner.

    Attributes:
        sampler: tpe, random, grid, qmc or cmaes.
        pruner: median, halving, hyperband or none.
        startup_trials: drawn at random before the sampler learns, and completed before any is pruned.
        warmup: epochs of a trial before which it is not pruned.
        seed: of the draws.
    """

    sampler: str
    pruner: str
    startup_trials: int
    warmup: int
    seed: int


def make_sampler(settings: SamplerSettings, space: Space, *, seed: int) -> BaseSampler:
    """Return Optuna's sampler.

    Raises:
        UserError: for a sampler that there is not, or that cannot search this space.
    """
    makers: dict[str, Callable[[], BaseSampler]] = {
        # several workers draw at the same time: `constant_liar` keeps them apart
        "tpe": lambda: optuna.samplers.TPESampler(
            n_startup_trials=settings.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.GridSampler(space.grid(), seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False),
        "cmaes": lambda: _cmaes(settings, seed=seed),
    }
    if settings.sampler not in makers:
        raise UserError(f"sweep.sampler: {settings.sampler!r} is none of {', '.join(makers)}")
    return makers[settings.sampler]()


def _cmaes(settings: SamplerSettings, *, seed: int) -> BaseSampler:
    with requirement("cmaes", CMAES):
        import cmaes  # noqa: F401
    return optuna.samplers.CmaEsSampler(
        n_startup_trials=settings.startup_trials, seed=seed, warn_independent_sampling=False
    )


def make_pruner(settings: SamplerSettings) -> BasePruner:
    """Return Optuna's pruner, of the scores of validations by their epoch.

    Raises:
        UserError: for a pruner that there is not.
    """
    makers: dict[str, Callable[[], BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(
            n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup
        ),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, settings.warmup)),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=max(1, settings.warmup)),
    }
    if settings.pruner not in makers:
        raise UserError(f"sweep.pruner: {settings.pruner!r} is none of {', '.join(makers)}")
    return makers[settings.pruner]()
