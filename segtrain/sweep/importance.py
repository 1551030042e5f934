"""Which hyperparameters made a difference: fANOVA (Hutter et al., ICML 2014), as Optuna has it."""

from collections.abc import Mapping, Sequence
from functools import partial

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

LEAST = 8  # completed trials, below which a forest has nothing to learn from


def importance(
    study: optuna.Study, trials: Sequence[FrozenTrial], objectives: Sequence[str]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return {objective: {parameter: share of the explained variance}}, and what there is to say of it.

    Args:
        study: as it is.
        trials: those that stand for themselves.
        objectives: the names of the study's values.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(complete) < LEAST:
        return {}, [f"importance of hyperparameters: needs {LEAST} completed trials, and there are {len(complete)}"]
    everywhere = set.intersection(*(set(trial.params) for trial in complete))
    everywhere = {name for name in everywhere if len({repr(trial.params[name]) for trial in complete}) > 1}
    sometimes = sorted({name for trial in complete for name in trial.params} - everywhere)
    said = []
    if sometimes:
        said.append(
            f"importance says nothing of {', '.join(sometimes)}: searched in some trials only, or always the same"
        )
    if not everywhere:
        return {}, said
    found = {}
    for index, name in enumerate(objectives):
        if len({trial.values[index] for trial in complete}) < 2:
            said.append(f"importance for {name}: all trials have the same")
            continue
        try:
            found[name] = dict(
                get_param_importances(
                    _only(complete, study),
                    evaluator=FanovaImportanceEvaluator(seed=0),
                    params=sorted(everywhere),
                    target=partial(_value, index),
                )
            )
        except RuntimeError as error:  # a forest that found nothing to split by
            said.append(f"importance for {name}: {error}")
    if found:
        said.append("importance: shares of what the parameters explain together, which may be noise; they sum to 1")
    return found, said


def importance_table(shares: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of importance.csv."""
    parameters = list(dict.fromkeys(name for of_one in shares.values() for name in of_one))
    return ["parameter", *shares], [[name, *(of_one.get(name) for of_one in shares.values())] for name in parameters]


def _value(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _only(trials: Sequence[FrozenTrial], study: optuna.Study) -> optuna.Study:
    """Return a study in memory of these trials alone."""
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials(trials)
    return copy
