"""Is every end of a job array's tasks told from the others, and what cannot be submitted refused in a sentence?"""

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import BANDS
from in_this_process import train_grid

from segtrain.clusters.job_state import NoAnswerError
from segtrain.clusters.submit import Resources
from segtrain.errors import UserError
from segtrain.grid import array
from segtrain.grid.array import settle, wait_for
from segtrain.grid.command import arguments_of, way_on
from segtrain.grid.record import Job
from segtrain.grid.table import best_first

OF_CONSTRUCTOR = """epoch 1/2
Traceback (most recent call last):
  File "instantiate.py", line 1, in call
    target()
RuntimeError: planted in two
lines

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "node.py", line 16, in build_node
    return instantiate(node)
           ^^^^^^^^^^^^^^^^^
hydra.errors.InstantiationException: Error in call to target 'boom.Bad':
RuntimeError('planted in two\\nlines')
full_key: model
"""


def facts(state: str, status: str = "0:0", **more: str) -> dict[str, str]:
    return {"JobState": state, "Reason": "None", "ExitCode": status, **more}


def job_in(folder: Path, number: int = 0, **more: Any) -> Job:
    run = folder / str(number)
    run.mkdir(parents=True, exist_ok=True)
    return Job(number, run, ("seed=0", f"optimizer.lr={number}"), (f"optimizer.lr={number}",), **more)


@pytest.mark.parametrize(
    ("known", "scored", "state", "reason"),
    [
        (facts("COMPLETED"), True, "complete", ""),
        (None, True, "complete", ""),
        (None, False, "lost", "SLURM knows nothing of it any more"),
        (facts("COMPLETED"), False, "lost", "SLURM's state COMPLETED"),
        (facts("FAILED", "1:0"), False, "failed", "optimizer: Invalid learning rate: -1"),
        (facts("FAILED", "137:0"), False, "lost", "SLURM's state FAILED, killed by signal 9"),
        (facts("OUT_OF_MEMORY", "0:125"), False, "lost", "SLURM's state OUT_OF_MEMORY, killed by signal 125"),
        (facts("NODE_FAIL"), False, "lost", "SLURM's state NODE_FAIL"),
        (facts("CANCELLED", "0:15"), False, "stopped", "SLURM's state CANCELLED, killed by signal 15"),
        (facts("FAILED", "75:0"), False, "stopped", "SLURM's state FAILED, exit status 75"),
    ],
)
def test_the_end_of_a_task_is_known_without_accounting(
    known: dict[str, str] | None, scored: bool, state: str, reason: str, tmp_path: Path
) -> None:
    job = job_in(tmp_path, console=tmp_path / "console.out")
    (tmp_path / "console.out").write_text(
        "epoch 1/2\nsegtrain: optimizer: Invalid learning rate: -1\nsrun: error: n1: task 0: Exited with exit code 1\n"
    )
    if scored:
        (job.folder / "metrics.json").write_text('{"val/miou": 0.5}')
    settle(job, known)
    assert (job.state, job.reason) == (state, reason)
    assert job.score() == (0.5 if scored else None)


def test_the_last_line_of_a_traceback_is_a_jobs_last_word(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("Traceback (most recent call last):\n  File ...\nValueError: no\n\nsrun: error: n1\n")
    job = job_in(tmp_path, console=tmp_path / "a")
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "ValueError: no"
    (tmp_path / "a").write_text("segtrain: two problems\n  one\n  two\n[torchrun] all ended\nsrun: error: n1\n")
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "two problems\n  one\n  two"
    (tmp_path / "a").write_text(OF_CONSTRUCTOR)
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "Error in call to target 'boom.Bad': RuntimeError: planted in two lines"
    (tmp_path / "a").write_text(OF_CONSTRUCTOR.replace("\nlines\n", ":\n  one\n\n  other\n"))
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "Error in call to target 'boom.Bad': RuntimeError: planted in two: one other"
    (tmp_path / "a").write_text(f"{OF_CONSTRUCTOR}\nTraceback (most recent call last):\n  File ...\nValueError: no\n")
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "ValueError: no"
    (tmp_path / "a").unlink()
    settle(job, facts("FAILED", "1:0"))
    assert job.reason == "SLURM's state FAILED, exit status 1"


def test_a_record_that_cannot_be_written_costs_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    job = Job(0, tmp_path / "file" / "0", ())
    job.begin()
    job.end("failed", "boom")
    assert "cannot write" in caplog.text


def test_jobs_are_watched_through_preemption_and_a_slurm_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (job_in(tmp_path, number) for number in range(2))
    (first.folder / "metrics.json").write_text('{"val/miou": 0.5}')
    waits, runs, again = (
        facts("PENDING"),
        facts("RUNNING", NodeList="n1"),
        facts("RUNNING", NodeList="n2", Restarts="1"),
    )
    answers: list[Any] = [
        {"7_0": waits, "7_1": waits},
        {"7_0": runs, "7_1": runs},
        NoAnswerError("busy"),
        {"7_0": waits, "7_1": facts("FAILED", "137:0")},
        {"7_0": again},
        {"7_0": facts("COMPLETED")},
    ]

    def answer(name: str) -> dict[str, dict[str, str]]:
        assert name == "7"
        said = answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(array, "array_facts", answer)
    told: list[str] = []
    wait_for({"7_0": first, "7_1": second}, poll=0.001, told=told.append)
    assert told == [
        "job 0 runs on n1",
        "job 1 runs on n1",
        "job 0 was preempted; SLURM runs it again, and it goes on from its checkpoint",
        "job 1 lost: SLURM's state FAILED, killed by signal 9",
        "job 0 runs again on n2",
        "job 0 done",
    ]
    assert answers == []


def test_resources_become_options_of_sbatch_and_srun() -> None:
    asked = Resources("hydra.launcher", partition="gpu", gpus_per_node=2, cpus_per_task=4, tasks_per_node=2)
    given = asked.submitits("grid")
    assert (given["partition"], given["gpus_per_node"], given["ntasks_per_node"]) == ("gpu", 2, 2)
    assert given["additional_parameters"] == {"requeue": True}
    assert "--cpus-per-task=4" in given["srun_args"]
    assert "mem" not in given


@pytest.mark.parametrize("key", ["time", "nodes", "tasks_per_node", "cpus_per_task", "max_parallel"])
def test_resources_that_no_job_can_have_are_refused(key: str) -> None:
    for value in (0, -1, "abc", 1.5):
        with pytest.raises(UserError, match=f"hydra.launcher.{key}: {value!r} is not a positive whole number"):
            Resources("hydra.launcher", **{key: value}).check()


def test_a_machine_without_slurm_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert train_grid(tmp_path, *BANDS, "dataset.root=none", "seed=0,1", "hydra/launcher=slurm") == 1
    said = capsys.readouterr()
    assert "hydra/launcher: slurm, and this machine has no sbatch, srun, scontrol, scancel; call this where" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("hydra.launcher.partion=gpu",),
            "partion: no such key. Did you mean hydra.launcher.partition?",
        ),
        (("hydra.launcher.time=abc",), "hydra.launcher.time: 'abc' is not a positive whole number"),
        (("hydra.launcher.poll=0",), "hydra.launcher.poll: 0 is not a positive number of seconds"),
        (("hydra/launcher=slurmm",), "hydra/launcher=slurmm: no such option. Did you mean slurm?"),
    ],
)
def test_a_mistake_in_the_launchers_keys_is_a_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = () if "hydra/launcher=slurmm" in words else ("hydra/launcher=slurm",)
    assert train_grid(tmp_path, *BANDS, "dataset.root=none", "seed=0,1", *chosen, *words) == 1
    assert sentence in capsys.readouterr().err


def test_a_job_is_typed_by_itself_with_the_flags_of_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["segtrain train", "--config-dir", "my dir", "-m", "seed=0", "optimizer.lr=0,1"])
    job = job_in(tmp_path, 1)
    assert arguments_of(job) == [
        *("--config-dir", "my dir", "seed=0", "optimizer.lr=1"),
        *("test=false", f"hydra.run.dir={job.folder}"),
    ]
    strange = Job(0, Path("/a b/it's=0"), ())
    assert arguments_of(strange)[-1] == r"hydra.run.dir='/a b/it\'s=0'"
    assert way_on(job).startswith(
        "segtrain train --config-dir 'my dir' seed=0 optimizer.lr=1 test=false hydra.run.dir="
    )
    (job.folder / "config.yaml").touch()
    assert way_on(job).endswith(f"hydra.run.dir={job.folder}-again"), "no run takes the place of another"
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.ckpt").touch()
    job.begin()
    assert way_on(job).endswith(f"hydra.run.dir={job.folder}-again"), "what trained there was there before it"
    job.own = True
    assert way_on(job) == f"segtrain train resume={job.folder}", "its config leaves the test split alone"


def test_the_best_comes_first_whichever_way_is_better(tmp_path: Path) -> None:
    jobs = [job_in(tmp_path, number, state="complete", monitor="val/loss", mode="min") for number in range(4)]
    for job, loss in zip(jobs, ("0.5", "null", "0.1"), strict=False):
        (job.folder / "metrics.json").write_text(f'{{"val/loss": {loss}}}')
    (jobs[3].folder / "metrics.json").write_text('{"val/loss": 0.')  # torn
    assert [job.number for job in best_first(jobs)] == [2, 0, 1, 3]
    for job in jobs:
        job.mode = "max"
    assert [job.number for job in best_first(jobs)] == [0, 2, 1, 3]
