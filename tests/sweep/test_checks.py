"""Is everything that trials of a search would meet found before the first one, with the values that make it?"""

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import write_split
from hydra import compose
from hydra.errors import ConfigCompositionException
from plans import hydra_started, plan_of, space_file

from segtrain import build
from segtrain.config.locate import config_dir
from segtrain.config.wording import reword
from segtrain.errors import UserError
from segtrain.sweep.checks import objective_problems
from segtrain.sweep.search import Plan, check_trials, make_worker
from segtrain.sweep.space import by_key
from segtrain.sweep.trial_values import MOST, trial_values
from segtrain.sweep.written_space import parse_space

SWEEPS = sorted(path.stem for path in (Path(config_dir()) / "sweep").glob("*.yaml"))
NUMBERS = ("~sweep.space.loss", "~sweep.space.loss.gamma")  # leaves learning rate and weight decay
NOTHING = (*NUMBERS, "~sweep.space.optimizer.lr", "~sweep.space.optimizer.weight_decay")
LR = "optimizer.lr=choice(0.1)"  # one trial


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Hydra compose segtrain's configs."""
    monkeypatch.setenv("SEGTRAIN_RUN_ID", "test")
    with hydra_started():
        yield


@pytest.mark.slow  # many trials are composed and built
@pytest.mark.parametrize("name", SWEEPS)
def test_every_option_of_sweep_has_trials_that_would_train(name: str) -> None:
    plan = plan_of(f"sweep={name}")
    check_trials(plan)
    assert plan.space.parameters


PROBLEMS = [
    (
        ["optimizer.learning_rate=interval(0.1,1)", "optimiser=adamw,sgd"],
        [
            "sweep.space.optimizer.learning_rate: no such key. Did you mean optimizer.lr? (there: _target_, lr, ",
            "sweep.space.optimiser: no such key. Did you mean optimizer? (there: ",
        ],
    ),
    (
        ["loss=ce,focall,null"],
        [
            "sweep.space: loss=focall: no such option. Did you mean focal? (available: bce, ",
            "sweep.space: loss=null: a choice is needed here (available: bce, ",
        ],
    ),
    (["optimizer.lr=interval(-1,1)"], ["sweep.space: with optimizer.lr=-1.0: optimizer: Invalid learning rate: -1.0"]),
    (
        ["loss=ce,focal", "++loss.gamma=interval(1,2)"],
        ["sweep.space: with loss=ce: loss.gamma: CrossEntropyLoss takes"],
    ),
    (
        ["model=unet,pspnet", "dataset.crop_size=choice(32,64)"],
        ["sweep.space: with model=pspnet dataset.crop_size=32: dataset.crop_size: 32 pixels are fewer than the"],
    ),
    (
        ["loader.batch_size=choice(4,x,0)", "ema_decay=interval(0.9,1.5)"],
        [
            "sweep.space: with loader.batch_size=x: loader.batch_size: Value 'x' of type 'str'",
            "sweep.space: with loader.batch_size=0: loader.batch_size: 0 is not a positive number of images",
            "sweep.space: with ema_decay=1.5: ema_decay: 1.5 is not in [0, 1)",
        ],
    ),
    (["trainer=cpu,gpu"], ["sweep.space: with trainer=gpu: trainer.accelerator: 'gpu', but torch sees no GPU"]),
    (["inference.scale=0", LR], ["inference.scale: 0.0 is not above 0"]),  # of all trials, so no value makes it
    (
        ["optimizer=sgd,adamw", "optimizer.momentum=interval(0.8,0.9)"],
        ["sweep.space: with optimizer=adamw: optimizer.momentum: no such key."],
    ),
]


@pytest.mark.parametrize(("arguments", "sentences"), PROBLEMS, ids=lambda value: value[0][:40])
def test_a_problem_of_some_trials_is_a_sentence_with_their_values(
    arguments: list[str], sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError) as caught:
        check_trials(plan_of(*NOTHING, *arguments))
    lines = str(caught.value).splitlines()
    found = [line.split(". ", 1)[1] for line in lines[1:]] if len(lines) > 1 else lines
    assert len(found) == len(sentences), found
    for sentence in sentences:
        assert any(line.startswith(sentence) for line in found), found


@pytest.mark.parametrize("of_sgd", ["choice(2,4)", "choice(0,4)"])
def test_a_problem_of_a_range_by_condition_names_the_key_and_the_value(of_sgd: str, tmp_path: Path) -> None:
    ranges = {"optimizer=adamw": "choice(0,4)", "optimizer=sgd": of_sgd}
    space = {"optimizer": "choice(adamw,sgd)", "loader.batch_size": {"when": ranges}, "seed": None}
    with pytest.raises(UserError) as caught:
        check_trials(plan_of(*space_file(tmp_path / "mine", json.dumps({"space": space}))))
    assert str(caught.value).startswith("sweep.space: with loader.batch_size=0: loader.batch_size: 0 is not a positive")


OBJECTIVES = [
    ("val/miuo", "no run logs 'val/miuo'. Did you mean val/miou? (has: "),
    ("miou", "no run logs 'miou'. Did you mean val/miou?"),
    ("val/iou/nucelus", "no run logs 'val/iou/nucelus'. Did you mean val/iou/nucleus?"),
    ("test/miou", "test/miou is of the test split, which trials leave alone; give val/miou"),
    ("perf/latency", "no run logs 'perf/latency'. Did you mean perf/latency_ms?"),
]


@pytest.mark.parametrize(("name", "sentence"), OBJECTIVES)
def test_an_objective_that_no_run_logs_is_a_sentence(name: str, sentence: str) -> None:
    (problem,) = objective_problems({name: "max", "val/loss": "min", "perf/gflops": "min"}, ["background", "nucleus"])
    assert problem.startswith(f"sweep.objectives: {sentence}")


def test_an_objective_is_checked_against_the_classes_of_the_data_set() -> None:
    check_trials(plan_of(*NOTHING, LR, "checkpoint.monitor=val/iou/nucleus"))
    with pytest.raises(UserError, match=r"no run logs 'val/iou/Car'"):
        check_trials(plan_of(*NOTHING, LR, "sweep.pruner=none", "sweep.objectives={val/miou: max, val/iou/Car: max}"))


def test_classes_that_are_found_in_masks_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val", "test"):
        write_split(tmp_path, split, 8)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / split).rename(tmp_path / "images" / split)
        (tmp_path / f"{split}annot").rename(tmp_path / "masks" / split)
    calls: list[Any] = []
    real = build.complete_classes
    monkeypatch.setattr(build, "complete_classes", lambda *given: calls.append(1) or real(*given))
    data = ("dataset=folder", f"dataset.root={tmp_path}", "dataset.crop_size=64")
    check_trials(plan_of(*NOTHING, "optimizer.lr=0.1,0.2", *data, "checkpoint.monitor=val/iou/class_2"))
    assert len(calls) == 1
    with pytest.raises(UserError, match=r"no run logs 'val/iou/class_3'"):
        check_trials(
            plan_of(*NOTHING, LR, *data, "sweep.pruner=none", "sweep.objectives={val/miou: max, val/iou/class_3: max}")
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["n_trials=0"], r"n_trials: 0 is not a positive number"),
        (["seeds=0"], r"seeds: 0 is not a positive number"),
        (["retries=-1"], r"retries: -1 is negative"),
        (["resume=outputs/runs/one"], r"resume: a search goes on by its own command"),
        (["sweep.objectives={val/miou: best}"], r"sweep\.objectives: .* is no \{NAME: max or min\}"),
        (["sweep.objectives=val/miou"], r"sweep\.objectives: 'val/miou' is no \{NAME: max or min\}"),
        (
            ["sweep.objectives={perf/gflops: min}"],
            r"sweep\.pruner: median, and perf/gflops is no score of a validation",
        ),
        (["sweep.objectives={val/miou: max, val/loss: min}"], r"sweep\.pruner: median, and with 2 objectives"),
        (["sweep.sampler=tp", "sweep.pruner=medan"], r"2 problems(.|\n)*mean tpe\?(.|\n)*mean median\?"),
        (
            ["sweep.objectives={val/loss: min}"],
            r"sweep\.objectives: val/loss \(min\), .* best epoch by checkpoint\.monitor=val/miou \(max\); "
            r"give checkpoint\.monitor=val/loss checkpoint\.mode=min",
        ),
        (["sweep.sampler=grid"], r"sweep\.space\.loss\.gamma: a grid takes no conditions"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan_of(*arguments)


def test_an_unknown_key_of_the_search_is_a_sentence_with_the_nearest() -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        compose("sweep", overrides=["sweep.samplr=tpe"])
    sentence = reword(caught.value, caught.value.__cause__)
    assert sentence.startswith("sweep.samplr: no such key. Did you mean sweep.sampler? (there: sampler, pruner, ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "samplr: tpe\nspace: {optimizer.lr: 'interval(0, 1)'}",
            r"sweep\.samplr: no such key\. Did you mean sampler\?",
        ),
        ("sampler: tpe", r"sweep\.space: nothing to search"),
        ("space: {}", r"sweep\.space: nothing to search"),
        ("space: {loss.gamma: {range: 'interval(1, 2)', when: loss=focal}}", r"loss=focal, and loss is not searched"),
    ],
)
def test_a_mistake_in_a_space_file_is_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        plan_of(*space_file(tmp_path / "mine", text))


def test_trials_have_the_users_files_and_the_commands_overrides_but_not_its_own(tmp_path: Path) -> None:
    path, sweep = space_file(tmp_path / "mine", "pruner: none\nspace:\n  optimizer:\n    lr: choice(0.1, 0.2)\n")
    plan = plan_of(path, sweep, "n_trials=3", "study=mine", "seed=4", "debug=fast", "hydra.run.dir=here", "loss=ce")
    assert plan.overrides == (path, "debug=fast", "loss=ce")
    assert [parameter.key for parameter in plan.space.parameters] == ["optimizer.lr"]
    assert plan.settings.pruner == "none"
    check_trials(plan)
    found = Plan(**{**vars(plan), "config_dirs": ("/a/folder",)})
    worker = make_worker(found, None, tmp_path)  # type: ignore[arg-type]
    assert worker.overrides == ["--config-dir=/a/folder", *plan.overrides]


def test_a_grid_has_no_more_trials_than_points() -> None:
    grid = ("sweep.sampler=grid", *NUMBERS, "optimizer.lr=0.1,0.2,0.3", "optimizer.weight_decay=range(0,2)")
    assert plan_of(*grid, "n_trials=20").n_trials == 6
    assert plan_of(*grid, "n_trials=4").n_trials == 4


def test_a_search_has_no_more_trials_than_combinations_so_that_nobody_waits_for_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    small = (*NUMBERS, "optimizer.lr=0.1,0.2,0.3", "optimizer.weight_decay=range(0,2)")
    with caplog.at_level(logging.INFO, logger="segtrain"):
        assert plan_of(*small, "n_trials=20").n_trials == 6
    assert "n_trials: 20, and the space has 6 combinations, so the search ends with those" in caplog.text
    monitor = ("checkpoint.monitor=val/loss", "checkpoint.mode=min", "sweep.objectives={val/loss: min}")
    endless = plan_of(*NUMBERS, *monitor, "n_trials=20")
    assert (endless.n_trials, endless.objectives) == (20, {"val/loss": "min"})


def test_a_warm_up_longer_than_a_trial_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="segtrain"):
        plan_of("trainer.max_epochs=20")
        assert not caplog.records
        assert plan_of("trainer.max_epochs=4").settings.epochs == 4
    assert "sweep.warmup: 5 epochs, and trials have 4, so none ends early" in caplog.text


SPACE = {
    "model": "choice(a, b, c)",
    "encoder": "choice(k, l, m)",
    "lr": "tag(log, interval(1e-4, 1e-2))",
    "depth": {"range": "range(1, 4)", "when": "model=a,b"},
    "stride": {"range": "choice(8, 16)", "when": "depth2=x"},
    "depth2": "choice(x, y)",
}


def test_the_looked_at_values_have_every_choice_every_end_and_every_pair_of_choices() -> None:
    values = trial_values(parse_space(SPACE))
    assert len(values) <= MOST
    for key, expected in {"model": "abc", "encoder": "klm", "depth2": "xy"}.items():
        assert {drawn[key] for drawn in values} == set(expected)
    assert {drawn["lr"] for drawn in values} == {1e-4, 1e-2}
    assert {drawn["depth"] for drawn in values if "depth" in drawn} == {1, 3}
    assert {drawn["model"] for drawn in values if "depth" in drawn} == {"a", "b"}
    assert all(("stride" in drawn) == (drawn["depth2"] == "x") for drawn in values)
    pairs = {(drawn["model"], drawn["encoder"]) for drawn in values}
    assert pairs == set(itertools.product("abc", "klm"))


def test_the_looked_at_values_have_both_ends_of_each_of_several_ranges() -> None:
    space = {
        "optimizer": "choice(adamw, sgd)",
        "lr": {"when": {"optimizer=adamw": "interval(1e-4, 1e-2)", "optimizer=sgd": "interval(0.1, 1)"}},
    }
    values = {tuple(by_key(drawn).values()) for drawn in trial_values(parse_space(space))}
    assert values == {("adamw", 1e-4), ("adamw", 1e-2), ("sgd", 0.1), ("sgd", 1.0)}


def test_a_long_list_of_choices_is_looked_at_once_each() -> None:
    values = trial_values(parse_space({"a": f"choice({','.join(map(str, range(40)))})", "b": "choice(x,y)"}))
    assert len(values) == 40
    assert len({drawn["a"] for drawn in values}) == 40
