"""Which hyperparameters made a difference: fANOVA (Hutter et al., ICML 2014), as Optuna has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtrain.sweep.space import Parameter, Space, by_key, condition_of

LEAST = 8  # completed trials, below which a forest has nothing to learn from


@dataclass(frozen=True)
class Importance:
    """What parameters explain of an objective, among trials that have them all.

    Attributes:
        objective: a name in metrics.json.
        where: KEY=CHOICE, where those trials are not all of the search; else empty.
        trials: how many there are, all complete.
        shares: {key: share of the variance that they explain together}.
    """

    objective: str
    where: str
    trials: int
    shares: dict[str, float]


def importance(
    study: optuna.Study, trials: Sequence[FrozenTrial], objectives: Sequence[str], space: Space
) -> tuple[list[Importance], list[str]]:
    """Return the importance for each objective, of all trials and of those of each condition; and what to say of it.

    Args:
        study: as it is.
        trials: those that stand for themselves.
        objectives: the names of the study's values.
        space: what is searched.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(complete) < LEAST:
        return [], [f"importance of hyperparameters: needs {LEAST} completed trials, and there are {len(complete)}"]
    found: list[Importance] = []
    said: list[str] = []
    explained: set[str] = set()
    for where, parameters in _groups(space).items():
        among = [trial for trial in complete if {p.name for p in parameters} <= trial.params.keys()]
        if len(among) < LEAST or (where and len(among) == len(complete)):
            continue
        copy, varied = _by_key(study, among)
        if where and not varied & {parameter.key for parameter in parameters}:
            continue
        explained |= varied
        shares, why = _shares(copy, objectives, varied, where)
        found += shares
        said += why
    if left := dict.fromkeys(parameter.key for parameter in space.parameters if parameter.key not in explained):
        few = f"of one value, or in fewer than {LEAST} completed trials"
        said.insert(0, f"importance says nothing of {', '.join(left)}: {few}")
    if found:
        said.append("importance: shares of what the parameters explain together, which may be noise; they sum to 1")
    return found, said


def _groups(space: Space) -> dict[str, list[Parameter]]:
    """Return {condition: the parameters that it lets be searched}; those of all trials come first."""
    groups: dict[str, list[Parameter]] = {"": []}
    for parameter in space.parameters:
        groups.setdefault(condition_of(parameter) if parameter.when else "", []).append(parameter)
    return groups


def _by_key(study: optuna.Study, trials: Sequence[FrozenTrial]) -> tuple[optuna.Study, set[str]]:
    """Return a study in memory of these trials alone, and the keys that all of them have, with different values.

    A key that has several ranges by condition is one parameter there, whose range holds them all.
    """
    values = [by_key(trial.params) for trial in trials]
    ranges = [by_key(trial.distributions) for trial in trials]
    common = set.intersection(*map(set, values))
    varied = {key for key in common if len({repr(of_one[key]) for of_one in values}) > 1}
    merged = {key: whole for key in varied if (whole := _whole([of_one[key] for of_one in ranges])) is not None}
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials(
        create_trial(
            values=trial.values,
            params={key: of_one[key] for key in merged},
            distributions=merged,
        )
        for trial, of_one in zip(trials, values, strict=True)
    )
    return copy, set(merged)


def _whole(ranges: Sequence[BaseDistribution]) -> BaseDistribution | None:
    """Return the least range that holds all; None if they are of different kinds."""
    first = ranges[0]
    if all(other == first for other in ranges):
        return first
    if all(isinstance(other, CategoricalDistribution) for other in ranges):
        choices = [choice for other in ranges if isinstance(other, CategoricalDistribution) for choice in other.choices]
        return CategoricalDistribution(list(dict.fromkeys(choices)))
    for kind in (IntDistribution, FloatDistribution):
        numbers = [other for other in ranges if isinstance(other, kind)]
        if len(numbers) == len(ranges) and len({other.log for other in numbers}) == 1:
            low, high = min(other.low for other in numbers), max(other.high for other in numbers)
            return kind(low, high, log=numbers[0].log)  # type: ignore[arg-type]
    return None


def _shares(
    study: optuna.Study, objectives: Sequence[str], names: set[str], where: str
) -> tuple[list[Importance], list[str]]:
    trials = study.get_trials(deepcopy=False)
    found, said = [], []
    for index, objective in enumerate(objectives):
        words = f"{objective} where {where}" if where else objective
        if not names:
            continue
        if len({trial.values[index] for trial in trials}) < 2:
            said.append(f"importance for {words}: all trials have the same")
            continue
        try:
            shares = get_param_importances(
                study,
                evaluator=FanovaImportanceEvaluator(seed=0),
                params=sorted(names),
                target=partial(_value, index),
            )
        except RuntimeError as error:  # a forest that found nothing to split by
            said.append(f"importance for {words}: {error}")
            continue
        found.append(Importance(objective, where, len(trials), dict(shares)))
    return found, said


def importance_table(found: Sequence[Importance]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of importance.csv."""
    rows: list[list[object]] = [
        [one.objective, one.where, one.trials, key, share] for one in found for key, share in one.shares.items()
    ]
    return ["objective", "where", "trials", "parameter", "share"], rows


def _value(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])
