"""Do means, the paired test and the Pareto front agree with SciPy, NumPy and Optuna?"""

import math

import numpy as np
import optuna
import pytest
from scipy import stats

from segtrain.results.pareto import pareto_front
from segtrain.results.statistics import paired_test, score_of, verdict

FIRST = {0: 0.71, 1: 0.74, 2: 0.69, 3: 0.75, 7: 0.9}
SECOND = {0: 0.70, 1: 0.71, 2: 0.70, 3: 0.71, 8: 0.1}


def test_the_paired_test_is_scipys_over_the_common_seeds() -> None:
    ours = paired_test(FIRST, SECOND)
    assert ours is not None
    theirs = stats.ttest_rel([FIRST[s] for s in range(4)], [SECOND[s] for s in range(4)])
    interval = theirs.confidence_interval(0.95)
    assert ours.seeds == (0, 1, 2, 3)
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))
    assert ours.mean == pytest.approx(0.0175)  # (0.01 + 0.03 - 0.01 + 0.04) / 4


@pytest.mark.parametrize(("other", "common"), [({5: 0.1}, 0), ({0: 0.1}, 1), ({}, 0)])
def test_fewer_than_two_common_seeds_are_said(other: dict[int, float], common: int) -> None:
    test = paired_test(FIRST, other)
    assert test is None
    said = verdict(test, metric="val/miou", names=("row 1", "row 2"), common=common)
    assert f"{common or 'no'} common seed, and a paired test needs 2" in said


def test_equal_differences_have_no_test() -> None:
    shifted = {seed: value - 0.1 for seed, value in FIRST.items()}
    test = paired_test(FIRST, shifted)
    assert test is not None
    assert math.isnan(test.p)
    said = verdict(test, metric="val/miou", names=("row 1", "row 2"), common=5)
    assert "the difference is +0.1000 with each of 5 seeds" in said
    same = verdict(paired_test(FIRST, FIRST), metric="val/miou", names=("row 1", "row 2"), common=5)
    assert "the two are the same" in same


@pytest.mark.parametrize(("shift", "words"), [(0.3, "more than the luck"), (0.0, "not more than the luck")])
def test_the_sentence_says_whether_it_is_luck(shift: float, words: str) -> None:
    moved = {seed: value - shift for seed, value in SECOND.items()}
    said = verdict(paired_test(FIRST, moved), metric="val/miou", names=("row 1", "row 2"), common=4)
    assert f": {words}" in said


def test_mean_and_deviation_are_numpys() -> None:
    score = score_of(list(FIRST.values()))
    assert score is not None
    assert score.mean == pytest.approx(np.mean(list(FIRST.values())))
    assert score.deviation == pytest.approx(np.std(list(FIRST.values()), ddof=1))
    assert score_of([0.5]).deviation is None
    assert score_of([]) is None


def test_the_front_is_optunas() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    points = [{"a": float(a), "b": float(b)} for a, b in rng.integers(0, 8, (60, 2))]  # with ties
    for point in points:
        study.add_trial(optuna.trial.create_trial(values=[point["a"], point["b"]]))
    best = {trial.number for trial in study.best_trials}
    ours = pareto_front(points, {"a": "max", "b": "min"})
    assert {number for number, on in enumerate(ours) if on} == best
    assert 0 < len(best) < 60


def test_a_point_without_all_objectives_is_not_on_the_front() -> None:
    objectives = {"a": "max", "b": "min"}
    assert pareto_front([{"a": 9.0}, None, {"a": 1.0, "b": 2.0}], objectives) == [False, False, True]
