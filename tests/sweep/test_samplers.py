"""Do samplers and pruners find what they should, stop where they should, and refuse what they cannot search?"""

import itertools
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from segtrain.errors import UserError
from segtrain.sweep.ranges import Value
from segtrain.sweep.samplers import (
    PRUNERS,
    SAMPLERS,
    SamplerSettings,
    make_pruner,
    make_sampler,
    setting_problems,
    suggest,
)
from segtrain.sweep.space import Space
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space

NUMBERS = {"x": "interval(-5, 5)", "y": "tag(log, interval(1e-4, 1e0))"}


def settings(sampler: str = "tpe", pruner: str = "none", **others: Any) -> SamplerSettings:
    """Return settings of a search."""
    return SamplerSettings(sampler, pruner, **{"startup_trials": 5, "warmup": 1, "seed": 0, **others})


def search_of(
    space: Space, chosen: SamplerSettings, *, n_trials: int, directions: tuple[str, ...] = ("maximize",), seed: int = 0
) -> Search:
    """Return a search in memory."""
    study = optuna.create_study(
        study_name="test",
        sampler=make_sampler(chosen, space, seed=seed),
        pruner=make_pruner(chosen),
        directions=list(directions),
    )
    return Search(study, space, n_trials=n_trials)


def run(search: Search, objective: Callable[[Mapping[str, Value]], list[float]]) -> list[dict[str, Value]]:
    """Run all trials of a search; return their values in order."""
    values = []
    while (asked := search.ask()) is not None:
        values.append(asked.values)
        search.complete(asked, objective(asked.values), {})
    return values


def hill(values: Mapping[str, Value]) -> list[float]:
    """Return a score whose best, 0, is at x=2 and y=0.01."""
    return [-((float(values["x"]) - 2) ** 2) - (math.log10(float(values["y"])) + 2) ** 2]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_samplers_that_learn_come_closer_than_their_first_draws(sampler: str, mode: str) -> None:
    sign = 1 if mode == "maximize" else -1
    search = search_of(parse_space(NUMBERS), settings(sampler), n_trials=60, directions=(mode,))
    scores = [hill(values)[0] for values in run(search, lambda values: [sign * hill(values)[0]])]
    assert len(scores) == 60
    assert sum(scores[-20:]) / 20 > sum(scores[:5]) / 5
    assert max(scores) > -0.5
    assert max(scores) > max(scores[:5])


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_every_sampler_draws_inside_the_space_and_without_repeats(sampler: str) -> None:
    space = parse_space({**NUMBERS, "n": "range(1, 9)", "c": "choice(a, b)"})
    values = run(search_of(space, settings(sampler), n_trials=20), hill)
    assert len({tuple(drawn.items()) for drawn in values}) == len(values) == 20
    assert all(-5 <= float(v["x"]) <= 5 and 1e-4 <= float(v["y"]) <= 1 for v in values)
    assert all(v["n"] in range(1, 9) and v["c"] in ("a", "b") for v in values)


def test_quasi_random_points_are_spread_more_evenly_than_random_ones() -> None:
    def discrepancy(sampler: str) -> float:
        space = parse_space({"x": "interval(0, 1)", "y": "interval(0, 1)"})
        values = run(search_of(space, settings(sampler), n_trials=64), lambda values: [0.0])
        cells = [(int(8 * float(v["x"])), int(8 * float(v["y"]))) for v in values]
        return 64 - len(set(cells))

    assert discrepancy("qmc") < discrepancy("random") / 2


GRID = {"a": "range(1, 4)", "b": "choice(x, y)"}
POINTS = {(a, b) for a, b in itertools.product((1, 2, 3), "xy")}


def test_a_grid_covers_every_point_once() -> None:
    values = run(search_of(parse_space(GRID), settings("grid"), n_trials=6), lambda values: [0.0])
    assert sorted((v["a"], v["b"]) for v in values) == sorted(POINTS)


def test_a_grid_that_is_gone_on_with_by_another_worker_has_no_gap_and_no_repeat() -> None:
    space, tried = parse_space(GRID), []
    first = search_of(space, settings("grid"), n_trials=6)
    for number in range(6):  # each by a worker of its own, with a seed of its own
        first.study.sampler = make_sampler(settings("grid", seed=number), space, seed=100 + number)
        asked = first.ask()
        assert asked is not None
        tried.append((asked.values["a"], asked.values["b"]))
        if number == 2:
            first.try_again(asked, {}, lost=True)
            again = first.ask()
            assert again is not None
            assert again.values == asked.values
            first.complete(again, [0.0], {})
        else:
            first.complete(asked, [0.0], {})
    assert first.ask() is None
    assert sorted(tried) == sorted(POINTS)
    assert not any("void" in trial.user_attrs for trial in first.study.get_trials())  # no point was drawn again


@pytest.mark.parametrize("drawn", [None, 0, 1])
@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_grid_whose_worker_dies_while_it_draws_has_no_gap_and_no_repeat(number: int, drawn: int | None) -> None:
    space = parse_space(GRID)
    search = search_of(space, settings("grid"), n_trials=6)
    for _ in range(number):
        asked = search.ask()
        assert asked is not None
        search.complete(asked, [0.0], {})
    if drawn is None:  # it had not even its point
        search.study._storage.create_new_trial(search.study._study_id)
    else:
        trial = search.study.ask()
        for parameter in space.parameters[:drawn]:
            suggest(trial, parameter.name, parameter.distribution)
    before = dict(search.study.trials[number].params)
    search.study.tell(number, state=TrialState.FAIL)
    search.study.sampler = make_sampler(settings("grid", seed=1), space, seed=100)  # of another worker
    assert [lost.number for lost in search.take_over()] == [number]
    run(search, lambda values: [0.0])
    assert search.done() == len(search.trials()) == 6
    assert {(trial.params["a"], trial.params["b"]) for trial in search.trials()} == POINTS
    again = next(trial for trial in search.trials() if "again" in trial.user_attrs)
    assert before.items() <= again.params.items()
    assert not any("void" in trial.user_attrs for trial in search.study.get_trials())  # no point was drawn again


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_that_is_lost_while_it_draws_is_drawn_by_every_sampler(sampler: str) -> None:
    words = GRID if sampler == "grid" else {**NUMBERS, **GRID}
    search = search_of(parse_space(words), settings(sampler), n_trials=6)
    died = search.study.ask()
    first = search.space.parameters[0]
    value = suggest(died, first.name, first.distribution)
    search.study.tell(died, state=TrialState.FAIL)
    search.take_over()
    values = run(search, lambda values: [float(len(values))])
    assert len(values) == search.done() == 6
    assert values[0][first.name] == value
    assert all(len(each) == len(words) for each in values)


def test_workers_share_the_sequence_of_qmc_and_draw_the_rest_each_by_itself() -> None:
    words = {
        "x": "interval(0, 1)",
        "n": "range(0, 64)",
        "c": "choice(a, b)",
        "y": {"range": "interval(0, 1)", "when": "c=a"},
    }

    def drawn(seed: int) -> list[dict[str, Value]]:
        return run(search_of(parse_space(words), settings("qmc"), n_trials=16, seed=seed), lambda values: [0.0])

    one, other = drawn(1), drawn(2)
    assert [(v["x"], v["n"]) for v in one] == [(v["x"], v["n"]) for v in other]
    assert len({v["x"] for v in one}) == 16
    assert not {v["y"] for v in one if "y" in v} & {v["y"] for v in other if "y" in v}


def _searches(numbers_alone: bool) -> Callable[..., dict[str, BaseDistribution]]:
    def infer(sampler: Any, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = study.trials[0].distributions.items()
        return {k: d for k, d in found if not (numbers_alone and isinstance(d, CategoricalDistribution))}

    return infer


@pytest.mark.parametrize(
    ("numbers_alone", "by_chance"), [(True, "c, n[c=a], n[c=b]"), (False, "n[c=a], n[c=b]")], ids=["4.9", "5.0"]
)
def test_what_qmc_draws_at_random_is_what_the_installed_optuna_cannot_search(
    numbers_alone: bool, by_chance: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("optuna.samplers.QMCSampler.infer_relative_search_space", _searches(numbers_alone))
    words = {**NUMBERS, "c": "choice(a, b)", "n": {"when": {"c=a": "range(0, 4)", "c=b": "range(4, 8)"}}}
    with caplog.at_level(logging.INFO, logger="segtrain"):
        assert setting_problems(settings("qmc"), parse_space(words), objectives=1) == []
        assert setting_problems(settings("qmc"), parse_space(NUMBERS), objectives=1) == []
    assert caplog.messages == [f"qmc does not search {by_chance}: drawn at random"]
    problems = setting_problems(settings("qmc"), parse_space({"c": "a,b"}), objectives=1)
    refused = ["sweep.sampler: qmc searches numbers that every trial has, 1 or more, and sweep.space has 0; give"]
    assert [problem[: len(refused[0])] for problem in problems] == (refused if numbers_alone else [])


def test_choices_alone_are_searched_by_qmc_or_refused() -> None:
    space = parse_space({"c": "choice(a, b, c, d)", "d": "choice(e, f, g, h)"})
    if setting_problems(settings("qmc"), space, objectives=1):
        return  # before Optuna 5
    values = run(search_of(space, settings("qmc"), n_trials=4), lambda values: [0.0])
    assert {v["c"] for v in values} == set("abcd")  # evenly, as four points of such a sequence are
    assert {v["d"] for v in values} == set("efgh")


def test_dependent_parameters_are_drawn_only_where_their_condition_holds() -> None:
    space = parse_space({"loss": "ce,focal,dice", "gamma": {"range": "interval(1, 4)", "when": "loss=focal,dice"}})
    for sampler in ("tpe", "random"):
        values = run(search_of(space, settings(sampler), n_trials=30), lambda v: [float(v.get("gamma", 0))])
        assert all(("gamma" in drawn) == (drawn["loss"] != "ce") for drawn in values)
        assert {drawn["loss"] for drawn in values} == {"ce", "focal", "dice"}


def test_several_objectives_give_a_pareto_front() -> None:
    search = search_of(parse_space(NUMBERS), settings(), n_trials=40, directions=("maximize", "minimize"))
    run(search, lambda values: [float(values["x"]), float(values["x"]) ** 2])
    front = search.study.best_trials
    assert len(front) > 3
    assert all(trial.params["x"] >= 0 for trial in front)  # below, more x is better by both


def pruned(pruner: str, *, mode: str = "maximize", warmup: int = 1, epochs: int = 27, n: int = 40) -> list[int | None]:
    """Return for each trial the epoch at which it was pruned, None where it was not; x is its score in every epoch."""
    chosen = settings("random", pruner, warmup=warmup, epochs=epochs, startup_trials=5)
    search = search_of(parse_space({"x": "interval(0, 1)"}), chosen, n_trials=n, directions=(mode,))
    ends: list[int | None] = []
    while (asked := search.ask()) is not None:
        score = float(asked.values["x"])
        end = next((epoch for epoch in range(epochs) if search.report(asked, epoch, score)), None)
        if end is None:
            search.complete(asked, [score], {})
        else:
            search.prune(asked, {})
        ends.append(end)
    states = [trial.state for trial in search.trials()]
    assert states == [TrialState.COMPLETE if end is None else TrialState.PRUNED for end in ends]
    best = max if mode == "maximize" else min
    assert (
        ends[[trial.params["x"] for trial in search.trials()].index(best(t.params["x"] for t in search.trials()))]
        is None
    )
    return ends


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_pruners_end_hopeless_trials_and_never_the_best(pruner: str, mode: str) -> None:
    ends = pruned(pruner, mode=mode)
    assert 5 < sum(end is not None for end in ends) < 40


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_no_trial_is_pruned_within_the_warm_up(pruner: str) -> None:
    ends = [end for end in pruned(pruner, warmup=4) if end is not None]
    assert ends
    assert min(ends) >= 4


def test_median_waits_for_the_first_trials_and_none_prunes_nothing() -> None:
    assert pruned("median")[:5] == [None] * 5
    assert set(pruned("none")) == {None}


def test_hyperband_prunes_at_the_rungs_of_its_brackets() -> None:
    ends = pruned("hyperband", epochs=27)
    assert {end for end in ends if end is not None} <= {1, 3, 9}  # as Li et al. have them, for eta=3
    assert pruned("hyperband", epochs=3, warmup=5) == [None] * 40  # no rung fits in


def test_hyperband_needs_no_complete_trial_to_know_how_many_epochs_there_are() -> None:
    chosen = settings("random", "hyperband", epochs=27)
    search = search_of(parse_space({"x": "interval(0, 1)"}), chosen, n_trials=20)
    trials = [asked for _ in range(20) if (asked := search.ask()) is not None]
    ended = [search.report(asked, epoch, float(asked.values["x"])) for epoch in (0, 1) for asked in trials]
    assert any(ended)


@pytest.mark.parametrize(
    ("words", "chosen", "objectives", "sentence"),
    [
        (NUMBERS, settings("tpr"), 1, "sweep.sampler: there is no 'tpr'. Did you mean tpe? (has: tpe, random, "),
        (NUMBERS, settings(pruner="halve"), 1, "sweep.pruner: there is no 'halve'. Did you mean halving? (has: "),
        (NUMBERS, settings(startup_trials=0), 1, "sweep.startup_trials: 0 is not a positive number"),
        (NUMBERS, settings(warmup=-1), 1, "sweep.warmup: -1 is negative"),
        (NUMBERS, settings(pruner="median"), 2, "sweep.pruner: median, and with 2 objectives no trial is worse"),
        (NUMBERS, settings("cmaes"), 2, "sweep.sampler: cmaes has one objective, and here are 2"),
        ({"c": "a,b"}, settings("cmaes"), 1, "sweep.sampler: cmaes searches numbers that every trial has, 2 or more, "),
        ({"x": "interval(0, 1)"}, settings("cmaes"), 1, "and sweep.space has 1; give sweep.sampler=tpe"),
        (
            {**NUMBERS, "y": {"range": "interval(0, 1)", "when": "c=a"}, "c": "a,b"},
            settings("cmaes"),
            1,
            "and sweep.space has 1; give sweep.sampler=tpe",
        ),
    ],
)
def test_what_cannot_be_searched_so_is_a_sentence(
    words: dict[str, Any], chosen: SamplerSettings, objectives: int, sentence: str
) -> None:
    (problem,) = setting_problems(chosen, parse_space(words), objectives=objectives)
    assert sentence in problem


@pytest.mark.parametrize(("sampler", "pruner"), itertools.product(["tpe", "random", "qmc", "cmaes"], PRUNERS))
def test_every_sampler_goes_with_every_pruner(sampler: str, pruner: str) -> None:
    assert setting_problems(settings(sampler, pruner), parse_space(NUMBERS), objectives=1) == []


def test_a_grid_of_endless_values_or_with_conditions_is_refused() -> None:
    with pytest.raises(UserError, match="no end of values for a grid"):
        make_sampler(settings("grid"), parse_space(NUMBERS), seed=0)
