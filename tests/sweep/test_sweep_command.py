"""Does the sweep command search what its line says, with the user's files, and refuse a mistake before any trial?"""

import json
from pathlib import Path

import pytest
from conftest import Run

from segtrain.config.help import command_help, first_comment
from segtrain.config.locate import config_dir


def test_help_explains_the_search_and_lists_the_spaces() -> None:
    text = command_help("sweep", "Search.", [])
    for key in ("sampler=tpe", "pruner=median", "startup_trials=5", "warmup=5", "objectives=null", "space=null"):
        assert f"  sweep.{key}" in text
    for key in ("n_trials=20", "seeds=1", "storage=null", "loader.batch_size=8"):
        assert f"  {key}" in text
    for path in (Path(config_dir()) / "sweep").glob("*.yaml"):
        assert any(path.stem in line and line.endswith(first_comment(path)) for line in text.splitlines())
    assert "   * lr_wd_loss " in text
    assert "when: optimizer=sgd" in text
    assert "runs every combination" not in text  # of -m, which is train's
    assert "optimizer=sgd" not in command_help("train", "Train.", [])


def test_without_optuna_its_install_line_is_a_sentence(segtrain: Run, tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('it is not here')\n")
    done = segtrain("sweep")
    assert done.returncode == 1
    wanted = "segtrain: optuna is not installed or does not import (it is not here); pip install 'optuna>=4.9,<6'\n"
    assert done.stderr == wanted


@pytest.mark.slow
def test_a_search_by_two_objectives_with_the_users_files_and_a_range_on_the_line(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for name, text in {
        "sweep/mine.yaml": "# Mine\nsampler: grid\npruner: none\nspace:\n  optimizer.lr: choice(0.01, 0.02)\n",
        "experiment/short.yaml": "# @package _global_\n# One epoch\ntrainer:\n  max_epochs: 1\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text, encoding="utf-8")
    given = [word for word in bands if not word.startswith("trainer.max_epochs")]
    objectives = "sweep.objectives={val/miou: max, perf/latency_ms: min}"
    line = ["experiment=short", "sweep=mine", objectives, "~sweep.space.optimizer.lr", "loss=ce,focal", "n_trials=9"]
    command = ["sweep", f"--config-dir={own}", *given, *line, "callbacks=none", "logger=none"]
    done = segtrain(*command, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    trials = [json.loads(path.read_text()) for path in sorted(folder.glob("trials/*/trial.json"))]
    assert sorted(trial["parameters"]["loss"] for trial in trials) == ["ce", "focal"]  # a grid ends with its points
    for trial in trials:
        metrics = json.loads((folder / "trials" / f"{trial['number']:04}" / "metrics.json").read_text())
        assert trial["state"] == "complete"
        assert trial["values"] == {name: metrics[name] for name in ("val/miou", "perf/latency_ms")}
        assert metrics["epoch"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["optimizer.learning_rate=interval(0.1,1)"],
            "segtrain: sweep.space.optimizer.learning_rate: no such key. Did",
        ),
        (["-m", "model=unet,pspnet"], "segtrain: -m: sweep is one job; it runs its trials itself; leave -m out"),
        (["sweep.samplr=tpe"], "segtrain: sweep.samplr: no such key. Did you mean sweep.sampler?"),
        (["seed=0,1"], "segtrain: seed: it is not searched"),
    ],
)
def test_a_mistake_ends_the_command_in_a_sentence_and_before_any_trial(
    arguments: list[str], sentence: str, segtrain: Run, tmp_path: Path
) -> None:
    done = segtrain("sweep", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(sentence), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("trials"))
