"""Which hyperparameters made a difference: fANOVA (Hutter et al., ICML 2014), as Optuna has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from segtrain.sweep.space import Space, by_key, condition_of

LEAST = 8  # completed trials, below which a forest has nothing to learn from


@dataclass(frozen=True)
class Importance:
    """What parameters explain of an objective, among the trials that have them all.

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
    for where, names in _groups(space).items():
        among = [trial for trial in complete if names <= trial.params.keys()]
        if len(among) < LEAST:
            continue
        everywhere = set.intersection(*(set(trial.params) for trial in among))
        varied = {name for name in everywhere if len({repr(trial.params[name]) for trial in among}) > 1}
        if where and not names & varied:
            continue
        explained |= varied
        shares, why = _shares(_only(among, study), objectives, varied, where)
        found += shares
        said += why
    if left := [parameter.name for parameter in space.parameters if parameter.name not in explained]:
        said.insert(
            0, f"importance says nothing of {', '.join(left)}: of one value, or in fewer than {LEAST} completed trials"
        )
    if found:
        said.append("importance: shares of what the parameters explain together, which may be noise; they sum to 1")
    return found, said


def _groups(space: Space) -> dict[str, set[str]]:
    """Return {condition: names of the parameters that it lets be searched}; those of all trials come first."""
    groups: dict[str, set[str]] = {"": set()}
    for parameter in space.parameters:
        groups.setdefault(condition_of(parameter) if parameter.when else "", set()).add(parameter.name)
    return groups


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
        found.append(Importance(objective, where, len(trials), by_key(shares)))
    return found, said


def importance_table(found: Sequence[Importance]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of importance.csv."""
    rows: list[list[object]] = [
        [one.objective, one.where, one.trials, key, share] for one in found for key, share in one.shares.items()
    ]
    return ["objective", "where", "trials", "parameter", "share"], rows


def _value(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _only(trials: Sequence[FrozenTrial], study: optuna.Study) -> optuna.Study:
    """Return a study in memory of these trials alone."""
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials(trials)
    return copy
