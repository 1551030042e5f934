"""Is what a grid refuses, promises and says at its end right, whatever its jobs train? (They are stubs here.)"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import BANDS
from hydra.core.utils import JobReturn, JobStatus
from in_this_process import run_train, train_grid

from segtrain.errors import UserError
from segtrain.grid import fresh as fresh_module
from segtrain.grid import local, slurm
from segtrain.grid.record import JOBS, Job
from segtrain.grid.table import finish_grid
from segtrain.states import COMPLETE, FAILED

SMALL = (*BANDS, "dataset.root=none", "name=grid")
Act = Callable[[Job], None]


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Act], None]]:
    """Return what takes the function that stands for a job's training."""

    def stand_in(acts: Act) -> None:
        def run(launcher: local.LocalLauncher, job: Job) -> None:
            acts(job)

        monkeypatch.setattr(local.LocalLauncher, "_run", run)
        monkeypatch.setattr(fresh_module, "forget", lambda: None)  # there is nothing to collect

    yield stand_in
    JOBS.clear()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("model=unett,unet", "model=unett: no such option. Did you mean unet?"),
        ("augmentation/mix=null,cutmix", "augmentation/mix=null: a choice is needed here (available: classmix,"),
    ],
)
def test_a_job_that_does_not_compose_is_told_before_the_first_one_trains(
    word: str, sentence: str, act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def acts(job: Job) -> None:
        assert f"job 0 cannot run: {sentence}" in capsys.readouterr().out
        job.end(COMPLETE)

    act(acts)
    own = [word for word in SMALL if not word.startswith("model.")]
    assert train_grid(tmp_path, *own, word) == 1
    assert [job.state for job in JOBS] == [FAILED, COMPLETE]
    assert sentence in (JOBS[0].folder / "train.log").read_text()
    assert f"job 0 failed: {sentence}" in capsys.readouterr().out


def test_a_single_null_choice_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("experiment", "debug"):
        assert run_train(tmp_path, f"{group}=null") == 1
        assert f"segtrain: {group}=null: leave it out, or choose one" in capsys.readouterr().err


def test_no_job_scores_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(local, "run_job", lambda *, config, **others: seen.append(config.test) or finished())
    assert train_grid(tmp_path, *SMALL, "seed=0,1") == 0
    assert seen == [False, False]


def finished() -> JobReturn:
    return JobReturn(_return_value=None, status=JobStatus.COMPLETED)


def test_a_grid_that_is_to_score_the_test_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_grid(tmp_path, *SMALL, "test=true") == 1
    assert "segtrain: test=true: the jobs of a grid are scored on the validation split alone" in capsys.readouterr().err
    JOBS.clear()


def test_cublas_has_a_fixed_workspace_from_the_first_job_on_if_any_is_exact(
    act: Callable[[Act], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: list[str | None] = []
    act(lambda job: seen.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
    train_grid(tmp_path, *SMALL, "deterministic=seeded,exact")
    train_grid(tmp_path, *SMALL, "deterministic=seeded")
    assert seen == [":4096:8", ":4096:8", None]


def test_an_error_of_ours_is_shown_though_a_job_has_failed(act: Callable[[Act], None], tmp_path: Path) -> None:
    act(fails_then(KeyError("ours")))
    with pytest.raises(KeyError, match="ours"):
        train_grid(tmp_path, *SMALL, "seed=0,1")


def test_a_users_mistake_is_said_once_though_a_job_has_failed(
    act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(fails_then(UserError("key: wrong")))
    assert train_grid(tmp_path, *SMALL, "seed=0,1") == 1
    said = capsys.readouterr()
    assert said.err == "segtrain: key: wrong\n"
    assert "key: wrong" not in said.out


def fails_then(error: Exception) -> Act:
    def acts(job: Job) -> None:
        if job.number:
            raise error
        job.end(FAILED, "planted")

    return acts


def test_the_winner_is_the_setting_with_the_best_mean_not_the_luckiest_job(
    act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [0.9, 0.3, 0.7, 0.8]  # lr 1e-3 with seeds 0 and 1, then 1e-4

    def acts(job: Job) -> None:
        (job.folder / "checkpoints").mkdir(parents=True)
        (job.folder / "checkpoints" / "best.ckpt").touch()
        settings = {"seed": job.number % 2, "optimizer": {"lr": job.number // 2}}
        (job.folder / "config.yaml").write_text(json.dumps(settings))
        (job.folder / "metrics.json").write_text(json.dumps({"val/miou": scores[job.number]}))
        job.end(COMPLETE)

    act(acts)
    folder = tmp_path / "a b"
    folder.mkdir()
    assert train_grid(folder, *SMALL, "optimizer.lr=1e-3,1e-4", "seed=0,1") == 0
    out = capsys.readouterr().out
    assert "best val/miou 0.7500 (the mean of jobs 2, 3): train it anew and test it\n  segtrain train " in out
    best = JOBS[2].folder / "checkpoints" / "best.ckpt"
    assert f"  segtrain eval 'checkpoint={best}' split=test\n" in out
    assert str(JOBS[0].folder / "checkpoints") not in out


@pytest.mark.parametrize("wait", [True, False])
def test_who_leaves_a_grid_on_slurm_sees_the_jobs_that_could_not_run(
    wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "submit", lambda *arguments, **named: ["7_0"])
    monkeypatch.setattr(slurm, "wait_for", interrupted)
    words = ("hydra/launcher=slurm", f"hydra.launcher.wait={wait}", "optimizer=sgdd,sgd")
    assert train_grid(tmp_path, *SMALL, *words) == (130 if wait else 1)
    assert [(job.number, job.state) for job in JOBS] == [(0, FAILED)]
    out = capsys.readouterr().out
    assert "job 0 failed: optimizer=sgdd: no such option. Did you mean sgd?" in out
    assert "scancel 7 ends them" in out
    JOBS.clear()


def test_a_launcher_without_a_grid_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_train(tmp_path, *SMALL, "hydra/launcher=slurm") == 1
    assert "give segtrain train -m hydra/launcher=slurm ..., or leave it out" in capsys.readouterr().err


def test_a_grid_in_several_folders_says_how_to_compare_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    JOBS.clear()
    for number, name in enumerate(("a b", "c")):
        folder = tmp_path / name / str(number)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"val/miou": 0.5}')
        JOBS.append(Job(number, folder, (), state=COMPLETE))
    assert finish_grid() == 0
    assert f"compare them by: segtrain results {tmp_path}\n" in capsys.readouterr().out
    JOBS.clear()
