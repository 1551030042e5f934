"""Does `segtrain results` show the numbers that are there, and commands that do what they say?"""

import csv
import io
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Compose
from folders import error, write_run, write_trial

from segtrain.commands.results import main
from segtrain.config.quoting import quote_paths
from segtrain.errors import UserError
from segtrain.results.collect import collect
from segtrain.results.rows import make_results
from segtrain.results.show import results_text
from segtrain.results.statistics import Score
from segtrain.results.table import score_text
from segtrain.results.winner import train_command

MIOU = {"unet": (0.512345678901, 0.53, 0.55), "pspnet": (0.61, 0.64, 0.62)}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of two networks with three seeds each; the last run failed."""
    folder = tmp_path / "a grid"
    jobs = [(model, seed) for model in MIOU for seed in (0, 1, 2)]
    for job, (model, seed) in enumerate(jobs):
        metrics = {"val/miou": MIOU[model][seed], "val/loss": 1.0 - seed / 10, "perf/images_per_second": 50.0 + job}
        failed = job == 5
        run = write_run(
            folder / str(job),
            f"model={model}",
            f"seed={seed}",
            metrics=None if failed else metrics,
            log=error("out of memory on cuda") if failed else "",
        )
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "best.ckpt").touch()
    return folder


def text_of(folder: Path, *, sort: str | None = None, **options: Any) -> str:
    return results_text(make_results(collect(folder), sort=sort), **options)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_all_digits_of_mean_and_deviation(grid: Path) -> None:
    best, other = rows_of(text_of(grid, form="csv"))
    assert (best["model"], best["n"], best["status"]) == ("pspnet", "2", "complete")
    assert float(other["val/miou"]) == statistics.fmean(MIOU["unet"])
    assert float(other["val/miou sd"]) == statistics.stdev(MIOU["unet"])
    assert float(best["val/miou sd"]) == statistics.stdev(MIOU["pspnet"][:2])
    assert best["reason"] == "out of memory on cuda"


def test_the_table_has_rounded_scores_the_failure_its_log_and_the_winners_commands(grid: Path) -> None:
    text = text_of(grid, width=160)
    assert "0.6250 ± 0.0212" in text
    assert "2 of 3" in text
    assert f"5 failed: out of memory on cuda ({grid / '5' / 'train.log'})" in text
    assert "2 settings, 6 runs; 5 complete, 1 failed" in text
    assert "best val/miou: row 2 (row 1 has a better mean, but of 2 seeds, not 3): train it" in text
    assert "  segtrain train model=unet seed=0 test=true\n" in text
    assert f"  segtrain eval 'checkpoint={grid}/0/checkpoints/best.ckpt' split=test" in text


def test_the_two_best_are_compared_over_their_common_seeds(grid: Path) -> None:
    text = text_of(grid)
    differences = [MIOU["pspnet"][seed] - MIOU["unet"][seed] for seed in (0, 1)]
    assert f"row 1 against row 2, val/miou: mean difference {statistics.fmean(differences):+.4f} over 2 common" in text
    assert "row 2 against row 1" in text_of(grid, compare=(2, 1))


def test_the_winner_is_compared_with_the_next_that_has_as_many_seeds(tmp_path: Path) -> None:
    scores = {0.1: (0.9,), 0.2: (0.5, 0.6, 0.7), 0.3: (0.8,), 0.4: (0.4, 0.5, 0.3)}
    for lr, miou in scores.items():
        for seed, value in enumerate(miou):
            write_run(tmp_path / f"{lr}-{seed}", f"optimizer.lr={lr}", f"seed={seed}", metrics={"val/miou": value})
    text = text_of(tmp_path)
    assert "best val/miou: row 3 (row 1 has a better mean" in text
    assert "row 3 against row 4, val/miou: mean difference +0.2000 over 3 common seeds" in text


@pytest.fixture
def gaps(tmp_path: Path) -> Path:
    """Four seeds of one setting; a score is missing in one of them, and that of a class in two."""
    for seed in range(4):
        metrics = {"val/miou": 0.5 if seed else None, "val/iou/car": 0.4 if seed > 1 else None, "val/loss": 1.0}
        write_run(tmp_path / "gaps" / str(seed), f"seed={seed}", metrics=metrics)
    return tmp_path / "gaps"


def test_n_is_over_how_many_runs_the_mean_is(gaps: Path) -> None:
    def cells(sort: str | None) -> dict[str, str]:
        head, _, row = (re.split(r"  +", line.strip()) for line in text_of(gaps, sort=sort).splitlines()[:3])
        return dict(zip(head, row, strict=True))

    assert cells(None)["n"] == "3 of 4"
    by_class = cells("val/iou/car")
    assert (by_class["n"], by_class["val/miou"]) == ("2 of 4", "0.5000 ± 0.0000 (n=3)")
    assert cells("val/loss")["n"] == "4"
    (row,) = rows_of(text_of(gaps, form="csv"))
    assert (row["n"], row["val/miou n"], row["val/iou/car n"]) == ("4", "3", "2")
    assert "val/loss n" not in row


@pytest.mark.parametrize("compare", [(1, 3), (0, 1), (1, 1)])
def test_rows_that_cannot_be_compared_are_said(grid: Path, compare: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="--compare"):
        text_of(grid, compare=compare)


def test_markdown_is_a_table_and_nothing_else(grid: Path) -> None:
    lines = text_of(grid, form="md").splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert set(lines[1]) <= set("| -")


def test_scores_fall_losses_rise_and_settings_rise(tmp_path: Path) -> None:
    for job, (lr, miou, loss) in enumerate([("0.1", 0.5, 0.9), ("0.01", 0.7, 0.8), ("0.5", 0.6, 0.7)]):
        write_run(tmp_path / str(job), f"optimizer.lr={lr}", metrics={"val/miou": miou, "val/loss": loss})
    write_run(tmp_path / "3", "optimizer.lr=0.3", log=error("boom"))

    def order(sort: str | None, **options: Any) -> list[str]:
        return [row.group.name for row in make_results(collect(tmp_path), sort=sort, **options).rows]

    assert order(None) == order("val/miou") == ["1", "2", "0", "3"]  # one without a score comes last
    assert order("val/loss") == ["2", "1", "0", "3"]
    assert order("val/miou", ascending=True) == ["0", "2", "1", "3"]
    assert order("optimizer.lr") == order("lr") == ["1", "0", "3", "2"]
    assert make_results(collect(tmp_path), sort="val/loss").winner.group.name == "2"
    assert make_results(collect(tmp_path), sort="lr").winner.group.name == "1"


def test_the_winner_is_not_chosen_by_the_test_split(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "optimizer.lr=1", metrics={"val/miou": 0.6, "test/miou": 0.1})
    write_run(tmp_path / "1", "optimizer.lr=2", metrics={"val/miou": 0.5, "test/miou": 0.9})
    results = make_results(collect(tmp_path), sort="test/miou")
    assert [row.group.name for row in results.rows] == ["1", "0"]
    assert results.winner.group.name == "0"


@pytest.mark.parametrize("sort", ["perf/latency_ms", "perf/parameters", "perf/gflops", "train/epoch_loss"])
def test_cost_is_better_the_less_it_is_and_chooses_no_winner(tmp_path: Path, sort: str) -> None:
    write_run(tmp_path / "0", "optimizer.lr=1", metrics={"val/miou": 0.6, sort: 9.0})
    write_run(tmp_path / "1", "optimizer.lr=2", metrics={"val/miou": 0.5, sort: 3.0})
    results = make_results(collect(tmp_path), sort=sort)
    assert [row.group.name for row in results.rows] == ["1", "0"]
    assert (results.winner.group.name, results.metric) == ("0", "val/miou")


def test_one_lucky_seed_does_not_win_over_a_mean_of_three(tmp_path: Path) -> None:
    for seed, miou in enumerate((0.5, 0.6, 0.7)):
        write_run(tmp_path / f"a{seed}", "model=unet", f"seed={seed}", metrics={"val/miou": miou})
        lucky = {"val/miou": 0.9} if seed == 0 else None
        write_run(tmp_path / f"b{seed}", "model=pspnet", f"seed={seed}", metrics=lucky, log=error("NaN"))
    run = tmp_path / "b0" / "train.log"
    run.write_text(run.read_text().replace(error("NaN"), ""))
    results = make_results(collect(tmp_path))
    assert [row.settings["model"] for row in results.rows] == ["pspnet", "unet"]
    assert results.winner.settings["model"] == "unet"
    assert "best val/miou: row 2 (row 1 has a better mean, but of 1 seed, not 3)" in results_text(results)


def test_a_seed_that_was_trained_twice_is_one_sample(tmp_path: Path) -> None:
    write_run(tmp_path / "2", "seed=0", metrics={"val/miou": 0.5}, seconds=15)  # the last one, whatever its name
    write_run(tmp_path / "3", "seed=0", metrics={"val/miou": 0.1})
    write_run(tmp_path / "4", "seed=0", log=error("boom"), seconds=20)
    write_run(tmp_path / "5", "seed=1", metrics={"val/miou": 0.9})
    results = make_results(collect(tmp_path))
    (row,) = results.rows
    score = row.scores["val/miou"]
    assert (score.mean, score.count, row.by_seed("val/miou")) == (0.7, 2, {0: 0.5, 1: 0.9})
    text = results_text(results)
    assert "1 setting, 4 runs; 3 complete, 1 failed" in text
    assert "3 complete, not counted: 2 has the same settings and seed 0" in text
    assert "4 failed, not counted: 2 has the same settings and seed 0" in text


def test_a_key_that_no_run_has_names_the_nearest(grid: Path) -> None:
    with pytest.raises(UserError, match="Did you mean val/miou"):
        text_of(grid, sort="val/mio")


def test_the_front_of_several_objectives_is_marked(tmp_path: Path) -> None:
    objectives = {"val/miou": "max", "perf/latency": "min"}
    (tmp_path / "sweep.json").write_text(json.dumps({"objectives": objectives, "overrides": ["trainer=cpu"]}))
    for number, (miou, latency) in enumerate([(0.5, 9.0), (0.7, 8.0), (0.4, 2.0)]):
        values = {"val/miou": miou, "perf/latency": latency}
        write_trial(tmp_path, number, values=values, parameters={"optimizer.lr": number / 10})
    write_trial(tmp_path, 3, "pruned", parameters={"optimizer.lr": 0.9}, reason="pruned")
    rows = make_results(collect(tmp_path)).rows
    assert {row.group.name for row in rows if row.front} == {"0001", "0002"}
    text = text_of(tmp_path)
    assert "* the Pareto front of val/miou (max), perf/latency (min)" in text
    assert "  segtrain train trainer=cpu optimizer.lr=0.2 test=true" in text
    assert [row["front"] for row in rows_of(text_of(tmp_path, form="csv"))] == ["1", "0", "1", "0"]


def test_a_pruned_trial_says_how_far_it_came(tmp_path: Path) -> None:
    trial = write_trial(tmp_path, 0, "pruned", parameters={"optimizer.lr": 0.1})
    run = write_run(trial / "seed-0", "optimizer.lr=0.1")
    (run / "metrics.csv").write_text("epoch,step,val/miou\n0,4,0.31\n1,8,\n2,12,0.25\n")
    assert "0000 pruned: 3 epochs, best val/miou 0.3100" in text_of(tmp_path)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_table_is_as_wide_as_the_terminal_and_names_what_has_no_room(tmp_path: Path, width: int) -> None:
    overrides = [
        f"{name}={{}}" for name in ("optimizer.lr", "optimizer.weight_decay", "loss.gamma", "model.encoder.depth")
    ]
    for job in range(3):
        words = [word.format(job / 7 + 0.0123) for word in overrides]
        write_run(tmp_path / str(job), "loss=focal", *words, metrics={"val/miou": 0.5, "perf/images_per_second": 10.0})
    table = text_of(tmp_path, width=width).split("\n\n")[0].splitlines()
    assert max(map(len, [line for line in table if not line.startswith("no room")])) <= width
    for name in ("lr", "weight_decay", "gamma", "depth"):
        assert name in table[0] or any(line.startswith("no room") and name in line for line in table)


def test_the_winners_command_composes_to_its_config(grid: Path, compose_config: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "quoted"
    words = (
        "dataset=camvid",
        "loss=focal",
        "loss.gamma=3",
        "dataset.root='/a b/c,d'",
        "+trainer.limit_train_batches=2",
        "test=false",
    )
    write_run(folder / "0", "loss=focal", "loss.gamma=3", "seed=4", metrics={"val/miou": 0.5})
    environment = json.loads((folder / "0" / "environment.json").read_text())
    environment |= {"overrides": [*words, "hydra.run.dir=/x"], "command": ["train.py", "-cd", "/my configs", *words]}
    (folder / "0" / "environment.json").write_text(json.dumps(environment))
    command = shlex.split(train_command(make_results(collect(folder)).rows[0], collect(folder)))
    assert command[:4] == ["segtrain", "train", "--config-dir", "/my configs"]
    assert not {"hydra.run.dir=/x", "test=false"} & set(command)
    cfg = compose_config(*quote_paths(command[4:]))
    assert (cfg.seed, cfg.test, cfg.loss.gamma, cfg.dataset.root) == (4, True, 3, "/a b/c,d")
    assert cfg.trainer.limit_train_batches == 2


def test_the_command_of_a_winner_that_was_gone_on_with_composes(compose_config: Compose, tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5})
    environment = json.loads((run / "environment.json").read_text())
    added = ["+trainer.limit_val_batches=2", "trainer.max_epochs=1"]
    (run / "environment.json").write_text(json.dumps(environment | {"overrides": added}))
    begun = yaml.safe_load((run / "config.yaml").read_text())
    begun["trainer"] = {"limit_val_batches": 2, "max_epochs": 1}
    (run / "config.yaml").write_text(yaml.safe_dump(begun))
    begun["trainer"] = {"limit_val_batches": 3, "max_epochs": 4, "val_check_interval": 1}
    (run / "resumed-1.yaml").write_text(yaml.safe_dump(begun))
    collection = collect(tmp_path)
    words = shlex.split(train_command(make_results(collection).rows[0], collection))[2:]
    assert {"trainer.limit_val_batches=3", "trainer.max_epochs=4", "++trainer.val_check_interval=1"} < set(words)
    trainer = compose_config(*words).trainer
    assert (trainer.limit_val_batches, trainer.max_epochs, trainer.val_check_interval) == (3, 4, 1)


@pytest.mark.parametrize(
    "setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_terminal_without_signs_shows_the_table_in_ascii(
    grid: Path, setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG", "PYTHONUTF8", "PYTHONIOENCODING", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (grid / "→x").mkdir()
    os.rename(grid / "5", grid / "→x" / "5")
    command = [sys.executable, "-m", "segtrain", "results", str(grid)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **setting}, check=True)
    assert b"0.6250 +-0.0212" in done.stdout
    assert set(done.stdout.splitlines()[1].strip()) == set(b"-")
    helped = subprocess.run([*command[:4], "--help"], capture_output=True, env={**os.environ, **setting}, check=True)
    assert b"+- standard deviation" in helped.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_stdout_that_cannot_be_written_is_a_sentence(grid: Path, form: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "segtrain", "results", str(grid), "--format", form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"segtrain: stdout: cannot write the results \(No space left .*\); free some .*\n", done.stderr)


@pytest.mark.parametrize("width", [40, 36])
def test_a_narrow_table_keeps_its_words_whole(grid: Path, width: int) -> None:
    table = text_of(grid, width=width).split("\n\n")[0]
    lines = table.splitlines()
    assert "complete" in table
    assert "no room for: images/s, time, n" in table
    assert max(map(len, [line for line in lines if not line.startswith("no room")])) <= width


@pytest.mark.parametrize("form", ["table", "csv", "md"])
def test_the_command_prints_or_writes(
    grid: Path, form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["segtrain results", str(grid), "--format", form])
    main()
    printed = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--output", str(tmp_path / "out")])
    main()
    assert (tmp_path / "out").read_text() == printed
    assert "pspnet" in printed


def test_what_another_user_may_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in ("files", "folder", "open"):
        run = write_run(tmp_path / job, f"optimizer.lr={len(job)}", metrics={"val/miou": 0.5})
        (run / "metrics.csv").write_text("epoch,step,val/miou\n0,4,0.31\n")

    def refused(call: Callable[..., Any], *folders: str) -> Callable[..., Any]:  # root, as whom tests may run, may all
        def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
            if any(str(path).startswith(f"{tmp_path / folder}/") for folder in folders):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *arguments, **options)

        return guarded

    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "folder")
    monkeypatch.setattr(os, "stat", refused(os.stat, "folder", "files/checkpoints"))
    monkeypatch.setattr(io, "open", refused(open, "folder", "files"))
    text = text_of(tmp_path)
    assert "files failed: metrics.json does not read (Permission denied)" in text
    assert "folder lost: nothing is known of it: you may not read its folder" in text
    assert "best val/miou" in text
    with pytest.raises(UserError, match="folder: you may not read it"):
        collect(tmp_path / "folder")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nowhere"], "no such folder"), (["."], "no run here"), (["GRID", "--output", "no/where"], "cannot write")],
)
def test_what_the_command_cannot_do_is_a_sentence(
    grid: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    given = [str(grid) if word == "GRID" else word for word in arguments]
    monkeypatch.setattr(sys, "argv", ["segtrain results", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert words in capsys.readouterr().err


def test_large_numbers_are_whole(grid: Path) -> None:
    path = grid / "0" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "perf/peak_memory_mb": 1234.5, "val/loss": 4321.0}))
    assert score_text(Score(4321.0, None, 1)) == "4321"
    text = results_text(make_results(collect(grid)), width=200)
    assert "memory, MiB" in text
    assert re.search(r" 1234 +complete", text)
