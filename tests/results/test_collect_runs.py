"""Are runs found, grouped by setting, and is what became of them told as it is?"""

import fcntl
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import error, write_run, write_trial

from segtrain import jobs
from segtrain.errors import UserError
from segtrain.grid.record import Job
from segtrain.logs import start_logging
from segtrain.results.collect import collect
from segtrain.results.rows import make_results
from segtrain.results.run_log import FITTED, read_log
from segtrain.results.runs import read_run
from segtrain.run_folder import prepare
from segtrain.run_lock import release
from segtrain.states import NOT_RUN
from segtrain.trial_record import write_record


def test_runs_that_differ_in_their_seed_alone_are_one_setting(tmp_path: Path) -> None:
    for job, (model, seed) in enumerate((m, s) for m in ("unet", "pspnet") for s in (0, 1, 2)):
        write_run(tmp_path / str(job), f"model={model}", f"seed={seed}", metrics={"val/miou": 0.5 + seed / 10})
    groups = collect(tmp_path).groups
    assert [group.name for group in groups] == ["0, 1, 2", "3, 4, 5"]
    assert [run.seed for run in groups[0].runs] == [0, 1, 2]


def test_how_a_run_was_done_and_called_makes_no_other_setting(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "name=a", "loader.num_workers=0", "seed=0", metrics={"val/miou": 0.5})
    write_run(tmp_path / "b", "name=b", "loader.num_workers=2", "seed=1", metrics={"val/miou": 0.6})
    tagged = write_run(tmp_path / "c", "name=c", "seed=2", metrics={"val/miou": 0.7})
    text = (tagged / "config.yaml").read_text().replace("tags: []", "tags: [x]").replace("keep: 2", "keep: 3")
    (tagged / "config.yaml").write_text(text)
    found = collect(tmp_path)
    assert [len(group.runs) for group in found.groups] == [3]
    (row,) = make_results(found).rows
    assert row.settings == {}


def test_a_job_that_failed_before_it_had_a_config_is_with_its_setting(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "model=unet", "seed=0", metrics={"val/miou": 0.5})
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "train.log").write_text(
        "2026-01-01 10:00:00,000 INFO job 1: model=unet seed=1\n"
        "2026-01-01 10:00:09,000 ERROR Traceback (most recent call last):\n  File x\nRuntimeError: boom\n"
    )
    (group,) = collect(tmp_path).groups
    assert [(run.seed, run.status, run.reason) for run in group.runs] == [
        (0, "complete", ""),
        (1, "failed", "RuntimeError: boom"),
    ]
    assert group.status == "complete"


def test_the_overrides_of_a_job_are_read_as_they_were_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["dataset.root='/a b/c,d'", "tags=[x, 'it\\'s']", '+name="q"']
    told: list[str] = []
    hydra = SimpleNamespace(
        runtime=SimpleNamespace(output_dir=str(tmp_path / "7")), overrides=SimpleNamespace(task=words)
    )
    monkeypatch.setattr(jobs.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(jobs, "in_sweep", lambda: True)
    monkeypatch.setattr(jobs, "start_logging", lambda path: None)
    monkeypatch.setattr(jobs.log, "info", told.append)
    with jobs.job(log_file="train.log"):
        pass
    (tmp_path / "train.log").write_text(f"2026-01-01 10:00:00,000 INFO {told[0]}\n")
    assert read_log(tmp_path / "train.log").overrides == tuple(words)
    (tmp_path / "train.log").write_text("2026-01-01 10:00:00,000 INFO job 0: x=1 y='a b\n")
    assert read_log(tmp_path / "train.log").overrides == ("x=1", "y='a", "b")


def test_jobs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for job in (10, 9, 1):
        write_run(tmp_path / str(job), f"optimizer.lr={job}", metrics={"val/miou": 0.5})
    assert [group.name for group in collect(tmp_path).groups] == ["1", "9", "10"]


def test_a_run_that_is_held_is_running_even_if_it_has_scores_of_a_test_that_goes_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5})
    with (run / "config.yaml").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_run(run).status == "running"
    assert read_run(run).status == "complete"


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("", "lost", "killed"),
        (error("optimizer.lr: too large"), "failed", "optimizer.lr: too large"),
        (error("Traceback (most recent call last):\n  File x\nValueError: bad\n"), "failed", "ValueError: bad"),
        ("2026-01-01 10:01:00,000 INFO stopped by SIGTERM after step 3; go on with: x\n", "stopped", "SIGTERM"),
        (error("an old one") + "2026-01-01 10:02:00,000 INFO epoch 2/3\n", "lost", "killed"),
    ],
)
def test_a_run_without_scores_says_why(tmp_path: Path, log: str, status: str, reason: str) -> None:
    run = read_run(write_run(tmp_path / "0", log=log))
    assert run.status == status
    assert reason in run.reason


def test_a_run_that_was_resumed_took_the_time_that_it_ran(tmp_path: Path) -> None:
    again = (
        "2026-01-02 10:00:00,000 DEBUG command: segtrain train resume=0\n2026-01-02 10:00:07,500 INFO run folder   0\n"
    )
    run = read_run(write_run(tmp_path / "0", metrics={"val/miou": 0.5}, seconds=10, log=again))
    assert run.seconds == pytest.approx(17.5)


def test_a_run_that_was_resumed_has_the_settings_with_which_it_went_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", "model=unet", metrics={"val/miou": 0.5})
    for number, lr in ((2, 0.2), (10, 0.1)):
        text = (run / "config.yaml").read_text().replace("lr: 0.001", f"lr: {lr}")
        (run / f"resumed-{number}.yaml").write_text(text)
    assert read_run(run).settings["optimizer.lr"] == 0.1
    assert read_run(run).overrides == ("model=unet", "optimizer.lr=0.1")  # which train it anew


def test_a_command_that_is_refused_leaves_a_complete_run_as_it_is(tmp_path: Path) -> None:
    refused = "2026-01-01 10:02:00,000 DEBUG command: segtrain train resume=0\n" + error("optimizer.lr: 'abc' is not")
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5}, log=refused)
    assert (read_run(run).status, read_run(run).reason) == ("complete", "")
    assert make_results(collect(tmp_path)).rows[0].scores["val/miou"].mean == 0.5


def test_a_run_whose_test_failed_is_failed_until_one_that_goes_on_ends_otherwise(tmp_path: Path) -> None:
    fitted = f"2026-01-01 10:01:00,000 DEBUG {FITTED}3.0 s\n"
    again = "2026-01-01 10:02:00,000 DEBUG command: segtrain train resume=0\n"
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5}, log=fitted + error("images/7.png: cannot be read"))
    assert (read_run(run).status, read_run(run).reason) == ("failed", "images/7.png: cannot be read")
    with (run / "train.log").open("a") as file:
        file.write(again + error("optimizer.lr: 'abc' is not"))
    assert (read_run(run).status, read_run(run).reason) == ("failed", "images/7.png: cannot be read")
    with (run / "train.log").open("a") as file:
        file.write(again + fitted)
    assert read_run(run).status == "complete"


def test_a_training_says_that_it_has_come_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from segtrain import training

    caplog.set_level("DEBUG", "segtrain")
    monkeypatch.setattr(training, "FITTED", "the end after ")
    trainer: Any = SimpleNamespace(fit=lambda *arguments, **named: None)
    training.fit(trainer, None, None, None, tmp_path)  # type: ignore[arg-type]
    assert caplog.messages[-1].startswith("the end after ")


def test_a_run_that_is_gone_on_with_has_no_scores_until_it_ends(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5})
    prepare(run, {"seed": 0, "optimizer": {"lr": 0.1}}, resumed=True)
    assert read_run(run).status == "running"
    release()
    again = read_run(run)
    assert (again.status, again.metrics, again.settings["optimizer.lr"]) == ("lost", {}, 0.1)


def test_damaged_files_are_told_and_not_fatal(tmp_path: Path) -> None:
    torn = write_run(tmp_path / "0", "optimizer.lr=1")
    (torn / "metrics.json").write_text('{"val/miou": 0.')
    nothing = write_run(tmp_path / "1", "optimizer.lr=2", metrics={"val/miou": 0.5})
    (nothing / "config.yaml").write_text("model: [")
    listed = write_run(tmp_path / "2", "optimizer.lr=3")
    (listed / "metrics.json").write_text("[1, 2]")
    (listed / "environment.json").write_text("{")
    (listed / "metrics.csv").write_text("epoch,val/miou\n0,0.5\n1,0.\n2,xy\n\x003")
    statuses = {group.name: (group.status, group.reason) for group in collect(tmp_path).groups}
    assert statuses["0"][0] == "failed"
    assert "metrics.json does not read" in statuses["0"][1]
    assert statuses["1"][0] == "complete"
    assert statuses["2"] == ("failed", "metrics.json is no object of names and values")


def test_scores_of_absent_classes_and_what_is_no_number_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5, "val/iou/a": None, "x": "y", "z": True})
    (run / "metrics.json").write_text((run / "metrics.json").read_text().replace("}", ', "val/loss": NaN}'))
    assert read_run(run).metrics == {"epoch": 1, "step": 8, "val/miou": 0.5}


def test_a_trial_has_its_state_and_its_seeds_runs(tmp_path: Path) -> None:
    trial = write_trial(tmp_path, 3, parameters={"optimizer.lr": 0.1}, values={"val/miou": 0.55})
    for seed in (0, 1):
        write_run(trial / f"seed-{seed}", f"seed={seed}", "optimizer.lr=0.1", metrics={"val/miou": 0.5 + seed / 10})
    write_trial(tmp_path, 4, "failed", reason="boom\nand more", parameters={"optimizer.lr": 0.2})
    one, other = collect(tmp_path).groups
    assert (one.name, one.status, len(one.runs), one.seconds) == ("0003", "complete", 2, 12.0)
    assert (other.name, other.status, other.reason, other.runs) == ("0004", "failed", "boom and more", ())


def test_a_trial_whose_worker_died_is_lost_once_nothing_is_written_there_any_more(tmp_path: Path) -> None:
    trial = write_trial(tmp_path, 0, "running")
    assert collect(tmp_path).groups[0].status == "running"
    os.utime(trial / "trial.json", (1, 1))
    assert collect(tmp_path).groups[0].status == "lost"


def test_a_trial_json_that_is_torn_is_a_lost_trial(tmp_path: Path) -> None:
    trial = write_trial(tmp_path, 0)
    (trial / "trial.json").write_text('{"number": 0, "sta')
    (group,) = collect(tmp_path).groups
    assert group.status == "lost"
    assert "trial.json does not read" in group.reason


def test_objectives_are_those_of_the_search_and_else_what_checkpoints_are_chosen_by(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5})
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("mode: max", "mode: min"))
    assert collect(tmp_path).objectives == {"val/miou": "min"}
    (tmp_path / "sweep.json").write_text(json.dumps({"objectives": {"val/loss": "min"}}))
    assert collect(tmp_path).objectives == {"val/loss": "min"}


def test_jobs_without_a_config_have_no_say_in_the_objective(tmp_path: Path) -> None:
    for job, loss in enumerate((0.4, 0.3)):
        run = write_run(tmp_path / str(job), f"optimizer.lr={job}", metrics={"val/loss": loss, "val/miou": -loss})
        text = (run / "config.yaml").read_text().replace("monitor: val/miou", "monitor: val/loss")
        (run / "config.yaml").write_text(text.replace("mode: max", "mode: min"))
    for job in range(2, 6):
        (tmp_path / str(job)).mkdir()
        words = f"INFO job {job}: checkpoint.monitor=val/loss loss=focl\n"
        (tmp_path / str(job) / "train.log").write_text(f"2026-01-01 10:00:00,000 {words}{error('no such option')}")
    results = make_results(collect(tmp_path))
    assert results.collection.objectives == {"val/loss": "min"}
    assert results.winner is not None
    assert results.winner.group.name == "1"


def test_of_objectives_that_as_many_runs_have_the_first_counts(tmp_path: Path) -> None:
    names = [f"val/{letter}" for letter in "hcaebdgf"]
    for job, name in enumerate(names):
        run = write_run(tmp_path / str(job), f"optimizer.lr={job}", metrics={name: 0.5})
        text = (run / "config.yaml").read_text().replace("monitor: val/miou", f"monitor: {name}")
        (run / "config.yaml").write_text(text)
    assert collect(tmp_path).objectives == {"val/h": "max"}


def test_links_lead_to_runs_and_a_run_is_found_once(tmp_path: Path) -> None:
    for job in (0, 1):
        write_run(tmp_path / "grid" / str(job), f"optimizer.lr={job}", metrics={"val/miou": 0.5})
    trial = write_trial(tmp_path / "search", 3, parameters={"optimizer.lr": 9.0})
    write_run(trial / "seed-0", "optimizer.lr=9", metrics={"val/miou": 0.5})
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "a").symlink_to(tmp_path / "grid" / "1")
    (chosen / "b").symlink_to(tmp_path / "search" / "trials" / "0003" / "seed-0")
    assert [group.name for group in collect(chosen).groups] == ["a", "b"]
    (chosen / "up").symlink_to(tmp_path)  # and so to itself
    assert len(collect(chosen).groups) == 2
    assert [(group.name, len(group.runs)) for group in collect(tmp_path).groups] == [
        ("0003", 1),
        ("grid/0", 1),
        ("grid/1", 1),
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(tmp_path / "grid")
    (tmp_path / "grid" / "0-latest").symlink_to(tmp_path / "grid" / "1")
    assert [group.name for group in collect(elsewhere).groups] == ["0", "1"], "by their own names, not a link's"


@pytest.mark.parametrize("where", ["trials/0003", "trials/0003/seed-0"])
def test_the_folder_in_which_one_is_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    trial = write_trial(tmp_path, 3)
    write_run(trial / "seed-0", metrics={"val/miou": 0.5})
    monkeypatch.chdir(tmp_path / where)
    assert [group.name for group in collect(Path()).groups] == [Path(where).name]


def test_a_folder_without_runs_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here or below"):
        collect(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        collect(tmp_path / "missing")


def test_a_grids_record_says_of_a_job_what_its_folder_cannot(tmp_path: Path) -> None:
    def record(job: int, state: str, **facts: object) -> None:
        (tmp_path / str(job)).mkdir(exist_ok=True)
        values = {"number": job, "state": state, "parameters": {"model": "unet", "seed": str(job)}, **facts}
        (tmp_path / str(job) / "trial.json").write_text(json.dumps(values))

    write_run(tmp_path / "0", "model=unet", "seed=0", metrics={"val/miou": 0.5})
    record(0, "complete", seconds=33.0, values={"val/miou": 0.5})
    write_run(tmp_path / "1", "model=unet", "seed=1")
    record(1, "lost", reason="killed by SIGKILL")
    record(2, "not run", reason="the grid was stopped")
    (group,) = collect(tmp_path).groups
    assert [(run.seed, run.status, run.reason) for run in group.runs] == [
        (0, "complete", ""),
        (1, "lost", "killed by SIGKILL"),
        (2, "not run", "the grid was stopped"),
    ]
    assert group.runs[0].seconds == 33.0  # with its start-up


def test_jobs_that_a_grid_left_to_slurm_are_told_by_their_parameters_before_they_have_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "in_sweep", lambda: False)
    for number, lr in enumerate(("1e-3", "1e-2")):
        folder = tmp_path / str(number)
        parameters = {"optimizer.lr": lr, "seed": "3"}
        write_record(folder, NOT_RUN, number=number, values={}, parameters=parameters, seconds=0.0, reason="")
        hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(folder)))
        monkeypatch.setattr(jobs.HydraConfig, "get", lambda hydra=hydra: hydra)
        with pytest.raises(SystemExit), jobs.job(log_file="train.log"):
            raise UserError("trainer.accelerator: 'gpu', but torch sees no GPU")
    start_logging(None)
    groups = collect(tmp_path).groups
    assert [(run.overrides, run.seed) for group in groups for run in group.runs] == [
        (("optimizer.lr=1e-3", "seed=3"), 3),
        (("optimizer.lr=1e-2", "seed=3"), 3),
    ]
    assert {(group.status, group.reason) for group in groups} == {
        ("failed", "trainer.accelerator: 'gpu', but torch sees no GPU")
    }


def test_a_job_that_a_grid_left_to_slurm_is_what_its_run_folder_says(tmp_path: Path) -> None:
    for number, log in enumerate(("", "2026-01-01 10:01:00,000 INFO stopped by SIGTERM after step 3; go on with: x\n")):
        run = write_run(tmp_path / str(number), f"optimizer.lr={number}", log=log)
        write_record(run, NOT_RUN, number=number, values={}, parameters={}, seconds=0.0, reason="")
    assert [group.status for group in collect(tmp_path).groups] == ["lost", "stopped"]


def test_a_job_that_has_not_run_took_no_time_that_is_known(tmp_path: Path) -> None:
    Job(0, tmp_path / "0", ()).await_turn()
    assert [(group.status, group.seconds) for group in collect(tmp_path).groups] == [(NOT_RUN, None)]


def test_a_grids_job_that_was_gone_on_with_took_the_time_of_both(tmp_path: Path) -> None:
    again = "2026-01-02 10:00:00,000 DEBUG command: segtrain train resume=0\n2026-01-02 10:00:49,000 INFO the end\n"
    run = write_run(tmp_path / "0", metrics={"val/miou": 0.5}, seconds=10, log=again)
    record = {"number": 0, "state": "stopped", "parameters": {}, "seconds": 15.8}
    (run / "trial.json").write_text(json.dumps(record))
    assert collect(tmp_path).groups[0].seconds == pytest.approx(59)


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_job_that_ended_before_it_had_a_config_is_not_running(tmp_path: Path, state: str) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "train.log").write_text("model: no such option\n")
    record = {"number": 0, "state": state, "parameters": {"seed": "0"}, "reason": "model: no such option"}
    (tmp_path / "0" / "trial.json").write_text(json.dumps(record))
    (group,) = collect(tmp_path).groups
    assert (group.status, group.reason) == (state, "model: no such option")
    (tmp_path / "0" / "trial.json").write_text(json.dumps(record | {"state": "running"}))
    assert collect(tmp_path).groups[0].status == "running"
