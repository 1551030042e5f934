"""Does a search write what came of it: tables of all trials, pictures, importance, and how to go on?"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from sweep.helpers import file_search, memory_search

from segtrain.errors import UserError
from segtrain.sweep import pictures, report
from segtrain.sweep.importance import LEAST, importance
from segtrain.sweep.report import begin, command, finish, write_reports
from segtrain.sweep.samplers import SamplerSettings
from segtrain.sweep.search import Plan
from segtrain.sweep.space import by_key
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space

SPACE = parse_space(
    {
        "optimizer.lr": "tag(log, interval(1e-4, 1e-1))",
        "loss": "choice(ce, focal)",
        "loss.gamma": {"range": "interval(1, 4)", "when": "loss=focal"},
    }
)
MIOU = {"val/miou": "max"}
BOTH = {"val/miou": "max", "perf/latency_ms": "min"}
LR, LOSS, GAMMA = (
    FloatDistribution(1e-4, 1e-1, log=True),
    CategoricalDistribution(["ce", "focal"]),
    FloatDistribution(1, 4),
)


def trial_of(rng: np.random.Generator, number: int, *, objectives: int = 1) -> FrozenTrial:
    """A trial whose score depends on the learning rate alone; every fifth is pruned, every seventh failed."""
    lr, loss = float(10 ** rng.uniform(-4, -1)), str(rng.choice(["ce", "focal"]))
    params: dict[str, Any] = {"optimizer.lr": lr, "loss": loss}
    distributions: dict[str, Any] = {"optimizer.lr": LR, "loss": LOSS}
    if loss == "focal":
        params["loss.gamma"], distributions["loss.gamma"] = float(rng.uniform(1, 4)), GAMMA
    miou = 0.7 - 0.1 * (np.log10(lr) + 2.5) ** 2
    pruned, failed = number % 5 == 4 and objectives == 1, number % 7 == 6
    state = TrialState.PRUNED if pruned else TrialState.FAIL if failed else TrialState.COMPLETE
    values = [miou, 5 + 40 * rng.uniform()][:objectives]
    return create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        intermediate_values={0: 0.1, 3: miou / 2} if pruned else {},
        user_attrs={"seconds": 12.5, "folder": f"{number:04}"} | ({"reason": "out of\nmemory"} if failed else {}),
    )


def study_of(count: int, objectives: dict[str, str]) -> optuna.Study:
    rng = np.random.default_rng(0)
    directions = ["maximize" if mode == "max" else "minimize" for mode in objectives.values()]
    study = optuna.create_study(study_name="tiny", directions=directions)
    study.add_trials([trial_of(rng, number, objectives=len(objectives)) for number in range(count)])
    return study


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(study: optuna.Study, objectives: dict[str, str], folder: Path) -> list[str]:
    trials: Sequence[FrozenTrial] = study.get_trials()
    return write_reports(study, trials, objectives, SPACE, folder)


def test_the_tables_have_every_trial_and_the_best_so_far(tmp_path: Path) -> None:
    study = study_of(20, MIOU)
    written(study, MIOU, tmp_path)
    trials = study.get_trials()
    best = np.fmax.accumulate([np.nan if trial.values is None else trial.values[0] for trial in trials])
    past = rows(tmp_path / "history.csv")
    assert [row["best val/miou"] for row in past] == [repr(float(value)) for value in best]
    assert {row["state"] for row in past} == {"complete", "pruned", "failed"}
    assert (past[4]["last epoch"], past[4]["val/miou"]) == ("3", "")
    table = rows(tmp_path / "trials.csv")
    assert [float(row["optimizer.lr"]) for row in table] == [trial.params["optimizer.lr"] for trial in trials]
    assert table[6]["reason"] == "out of memory"
    assert [row["loss.gamma"] != "" for row in table] == ["loss.gamma" in trial.params for trial in trials]


def test_importance_is_optunas_and_finds_what_matters(tmp_path: Path) -> None:
    study = study_of(40, MIOU)
    said = written(study, MIOU, tmp_path)
    table = rows(tmp_path / "importance.csv")
    assert {row["objective"] for row in table} == {"val/miou"}
    shares = {row["parameter"]: float(row["share"]) for row in table if not row["where"]}
    theirs = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=["loss", "optimizer.lr"]
    )
    assert shares == pytest.approx(theirs)
    assert shares["optimizer.lr"] > 0.9
    assert len(said) == 1
    assert "sum to 1" in said[0]


def test_what_is_searched_under_a_condition_has_its_importance_among_those_trials(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="tiny", direction="maximize")
    rng = np.random.default_rng(0)
    for _ in range(60):
        trial = trial_of(rng, 0)
        if "loss.gamma" in trial.params:  # which alone matters there
            trial.values = [trial.params["loss.gamma"]]
        study.add_trial(trial)
    written(study, MIOU, tmp_path)
    table = rows(tmp_path / "importance.csv")
    focal = [row for row in table if row["where"] == "loss=focal"]
    assert {row["parameter"] for row in focal} == {"optimizer.lr", "loss.gamma"}
    assert {int(row["trials"]) for row in focal} == {sum("loss.gamma" in trial.params for trial in study.trials)}
    shares = {row["parameter"]: float(row["share"]) for row in focal}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["loss.gamma"] > 0.9
    assert {row["parameter"] for row in table if not row["where"]} == {"optimizer.lr", "loss"}


def test_a_key_with_several_ranges_has_its_share_among_all_trials() -> None:
    space = parse_space(
        {
            "m": "choice(u, p)",
            "e": {"when": {"m=u": "choice(r18, r50)", "m=p": "choice(r50, r101)"}},
            "x": {"when": {"m=u": "interval(0, 1)", "m=p": "interval(0.5, 3)"}},
            "mixed": {"when": {"m=u": "interval(0, 1)", "m=p": "tag(log, interval(1, 3))"}},
            "s": {"range": "interval(0, 1)", "when": "e=r18,r50"},
        }
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(80):
        trial = study.ask()
        values = by_key(space.draw(trial._suggest))
        study.tell(trial, [{"r18": 0.0, "r50": 1.0, "r101": 2.0}[values["e"]], values["x"]])
    found, said = importance(study, study.get_trials(), ["val/miou", "perf/latency_ms"], space)
    shares = {(one.objective, one.where): one.shares for one in found}
    assert {where for _, where in shares} == {"", "m=u", "m=p", "e=r18,r50"}
    assert shares["val/miou", ""].keys() == {"m", "e", "x"}
    assert shares["val/miou", ""]["e"] > 0.8
    assert shares["perf/latency_ms", ""]["x"] > 0.8
    assert shares["val/miou", "e=r18,r50"]["e"] > 0.8
    assert shares["perf/latency_ms", "m=p"]["x"] > 0.8
    assert len(said) == 1


def test_a_condition_that_all_trials_met_is_no_panel_of_its_own() -> None:
    study = study_of(40, MIOU)
    focal = [trial for trial in study.trials if "loss.gamma" in trial.params]
    found, _ = importance(study, focal, ["val/miou"], SPACE)
    assert [(one.where, one.shares.keys()) for one in found] == [("", {"optimizer.lr", "loss.gamma"})]


def test_a_condition_that_few_trials_meet_is_told() -> None:
    study = study_of(20, MIOU)
    rare = [t for t in study.trials if "loss.gamma" not in t.params]
    rare += [t for t in study.trials if "loss.gamma" in t.params][: LEAST - 1]
    found, said = importance(study, rare, ["val/miou"], SPACE)
    assert [one.where for one in found] == [""]
    assert said[0] == "importance says nothing of loss.gamma: of one value, or in fewer than 8 completed trials"


def test_too_few_trials_have_no_importance_and_that_is_said() -> None:
    study = study_of(4, MIOU)
    found, said = importance(study, study.get_trials(), ["val/miou"], SPACE)
    assert found == []
    assert f"needs {LEAST} completed trials, and there are 4" in said[0]


def test_trials_that_all_score_the_same_have_no_importance() -> None:
    study = optuna.create_study(direction="maximize")
    for lr in np.linspace(0.001, 0.1, LEAST):
        study.add_trial(create_trial(values=[0.5], params={"lr": float(lr)}, distributions={"lr": LR}))
    found, said = importance(study, study.get_trials(), ["val/miou"], parse_space({"lr": "interval(0, 1)"}))
    assert (found, said) == ([], ["importance for val/miou: all trials have the same"])


@pytest.mark.parametrize("objectives", [MIOU, BOTH])
def test_pictures_are_drawn(objectives: dict[str, str], tmp_path: Path) -> None:
    written(study_of(30, objectives), objectives, tmp_path)
    names = {"history.png", "importance.png"} | ({"front.png"} if len(objectives) == 2 else set())
    assert {path.name for path in tmp_path.glob("*.png")} == names
    for name in names:
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert not list(tmp_path.glob(".*"))  # nothing half-written is left


def test_a_search_without_a_trial_that_ended_is_drawn_too(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="tiny", direction="maximize")
    assert written(study, MIOU, tmp_path) == []
    study.ask()
    written(study, MIOU, tmp_path)
    assert (tmp_path / "history.png").is_file()


def test_without_matplotlib_the_tables_are_written_and_its_install_line_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "segtrain.sweep.pictures", raising=False)
    monkeypatch.delattr("segtrain.sweep.pictures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)  # an import of it fails
    said = written(study_of(30, MIOU), MIOU, tmp_path)
    assert "pip install 'matplotlib>=" in said[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "history.csv", "importance.csv"}


def test_without_scikit_learn_the_rest_is_written_and_its_install_line_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**arguments: Any) -> None:
        raise ImportError("No module named 'sklearn'")

    monkeypatch.setattr("segtrain.sweep.importance.FanovaImportanceEvaluator", missing)
    said = written(study_of(30, MIOU), MIOU, tmp_path)
    assert "pip install 'scikit-learn>=" in said[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "history.csv", "history.png"}


def test_the_start_writes_what_is_searched_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:secret@host/db"
    monkeypatch.setattr(report, "TYPED", [f"storage={url}", "study=a b"])
    cfg = {"study": "a b", "storage": url, "n_trials": 5, "seeds": 1}
    settings = SamplerSettings("tpe", "none", startup_trials=1, warmup=0, seed=0)
    space = parse_space({"optimizer.lr": "interval(0, 1)"})
    search = Search(study_of(1, MIOU), space, n_trials=5, id="1a2b")
    begin(Plan(cfg, space, ("trainer=cpu",), MIOU, settings=settings, n_trials=5), search, tmp_path)
    text = (tmp_path / "sweep.json").read_text()
    facts = json.loads(text)
    assert "secret" not in text
    assert facts["objectives"] == MIOU
    assert facts["space"] == {"optimizer.lr": "interval(0, 1)"}
    assert facts["id"] == "1a2b"
    assert command() == "segtrain sweep 'storage=postgresql://me:***@host/db' 'study=a b'"


def test_a_pruned_trial_that_diverged_leaves_the_others_apart() -> None:
    scores = [0.40, 0.45, 0.48]
    assert pictures._near([0.5, 0.2], scores) == ([0.5, 0.2], "pruned, at its last score")
    near, label = pictures._near([38394.0, 0.5, -99.0], scores)
    assert near == pytest.approx([0.88, 0.5, 0.0])
    assert "far ones drawn nearer" in label
    assert pictures._near([7.0], []) == pictures._near([7.0], [0.4]) == ([7.0], "pruned, at its last score")


def test_a_folder_with_the_trials_of_another_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "TYPED", ["study=s"])
    settings = SamplerSettings("tpe", "none", startup_trials=1, warmup=0, seed=0)
    cfg = {"study": "s", "storage": None, "n_trials": 5, "seeds": 1}
    plan = Plan(cfg, parse_space({"x": "interval(0, 1)"}), (), MIOU, settings=settings, n_trials=5)
    search = file_search(tmp_path)
    begin(plan, search, tmp_path)
    search.ask()
    (tmp_path / "trials").mkdir()
    (tmp_path / "sweep.json").unlink()
    begin(plan, file_search(tmp_path), tmp_path)  # goes on
    written = (tmp_path / "sweep.json").read_text()
    assert json.loads(written)["id"] == search.id
    with pytest.raises(UserError, match="has the trials of another study"):
        begin(plan, memory_search(n_trials=1), tmp_path)
    other = memory_search(n_trials=1)
    other.ask()
    other.id = "another"
    with pytest.raises(UserError, match="has the trials of another study"):
        begin(plan, other, tmp_path)
    (tmp_path / "study.db").unlink()
    wanted = (
        rf"study: {tmp_path} has the trials of another study .*begun by: segtrain sweep study=s\), .* study=ANOTHER"
    )
    with pytest.raises(UserError, match=wanted):
        begin(plan, file_search(tmp_path), tmp_path)
    assert (tmp_path / "sweep.json").read_text() == written
    (tmp_path / "trials").rmdir()
    begin(plan, file_search(tmp_path), tmp_path)


def test_the_end_says_how_many_how_to_go_on_and_what_lies_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "TYPED", ["n_trials=12"])
    space = parse_space({"optimizer.lr": "tag(log, interval(1e-4, 1e-1))"})
    trial = tmp_path / "trials" / "0000"
    trial.mkdir(parents=True)
    record = {"number": 0, "state": "complete", "values": {"val/miou": 0.61}, "parameters": {"optimizer.lr": 0.01}}
    (trial / "trial.json").write_text(json.dumps(record))
    (tmp_path / "sweep.json").write_text(json.dumps({"objectives": MIOU, "overrides": []}))
    search = Search(study_of(10, MIOU), space, n_trials=12)
    worker: Any = SimpleNamespace(search=search, folder=tmp_path, objectives=MIOU)
    with caplog.at_level("INFO", logger="segtrain"):
        finish(worker)
    text = caplog.text
    assert "10 of 12 trials done: 7 complete, 2 pruned, 1 failed" in text
    assert "9 trials were trained on other machines" in text
    assert "go on with     segtrain sweep n_trials=12" in text
    caplog.clear()
    search.exhausted = True  # nothing new was found in many draws
    with caplog.at_level("INFO", logger="segtrain"):
        finish(worker)
    assert "10 of 12 trials done" in caplog.text
    assert "go on with" not in caplog.text
    assert "0.6100" in text
    assert "segtrain train optimizer.lr=0.01 test=true" in text
    assert "needs 8 completed trials" in text
