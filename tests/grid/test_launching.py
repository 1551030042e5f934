"""Is what a grid refuses, promises and says at its end right, whatever its jobs train? (They are stubs here.)"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
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
from segtrain.results.collect import collect
from segtrain.run_lock import hold, release
from segtrain.states import COMPLETE, FAILED, NOT_RUN, STOPPED
from segtrain.trial_record import read_state

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


def trains(job: Job) -> None:
    """Leave what a training leaves; the last job is interrupted."""
    job.begin()
    (job.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (job.folder / "checkpoints" / "last.ckpt").touch()
    (job.folder / "config.yaml").write_text("seed: 0\n")
    if job.number:
        job.end(STOPPED, "interrupted")
        raise KeyboardInterrupt
    (job.folder / "metrics.json").write_text('{"val/miou": 0.5}')
    job.end(COMPLETE)


def contents(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_grid_in_the_folder_of_another_is_refused_and_that_one_stays_as_it_is(
    launcher: str, act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(trains)
    sweep = tmp_path / "g2"
    assert train_grid(tmp_path, *SMALL, "optimizer.lr=1e-3,1e-2", f"hydra.sweep.dir={sweep}") == 130
    before = contents(sweep)
    words = ("loss=dice,ce", f"hydra.sweep.dir={sweep}", f"hydra/launcher={launcher}")
    assert train_grid(tmp_path, *SMALL, *words) == 1
    assert (
        f"segtrain: {sweep / '0'}: a job of another grid is here already; give another hydra.sweep.dir, or go on with "
        f"what is not complete by segtrain train resume={sweep / '1'}\n"
    ) in capsys.readouterr().err
    assert contents(sweep) == before
    assert JOBS == []


def test_nobody_is_told_to_go_on_with_a_job_that_runs(
    act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(trains)
    words = (*SMALL, "seed=0,1", "hydra.sweep.dir=g")
    assert train_grid(tmp_path, *words) == 130
    capsys.readouterr()
    hold(tmp_path / "g" / "1")
    assert train_grid(tmp_path, *words) == 1
    release()
    assert (
        f"segtrain: {tmp_path / 'g' / '0'}: a job of another grid is here already, and a process is training in "
        f"{tmp_path / 'g' / '1'} now; give another hydra.sweep.dir\n"
    ) in capsys.readouterr().err


def test_jobs_that_wait_in_a_folder_keep_another_grid_out(
    act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(fails_then(KeyError("not reached")))
    Job(1, tmp_path / "g" / "1", ()).await_turn()
    assert train_grid(tmp_path, *SMALL, "seed=0,1", "hydra.sweep.dir=g") == 1
    assert f"{tmp_path / 'g' / '1'}: a job of another grid is here already" in capsys.readouterr().err


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(
    ("environment", "ranks", "sentence"),
    [
        (TORCHRUN, ("RANK", "LOCAL_RANK"), "-m: torchrun started 2 processes, and a grid is one process, which runs"),
        (
            SRUN | {"SLURM_STEP_NODELIST": "n1"},
            ("SLURM_PROCID", "SLURM_LOCALID"),
            "-m: srun started 2 tasks, and a grid is one process, which runs its jobs one by one; give srun --ntasks=1",
        ),
    ],
)
def test_a_grid_of_several_processes_is_refused_by_each_before_it_writes(
    rank: str,
    environment: dict[str, str],
    ranks: tuple[str, ...],
    sentence: str,
    act: Callable[[Act], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    act(trains)
    for name, value in {**environment, **dict.fromkeys(ranks, rank)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "meeting"))  # of the ranks, for what they say
    (tmp_path / "here").mkdir()
    assert train_grid(tmp_path / "here", *SMALL, "seed=0,1") == 1
    assert f"segtrain: {sentence}" in capsys.readouterr().err
    assert list((tmp_path / "here").iterdir()) == []


def test_jobs_that_would_share_a_folder_are_refused(
    act: Callable[[Act], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(trains)
    assert train_grid(tmp_path, *SMALL, "seed=0,1", "hydra.sweep.dir=g", "hydra.sweep.subdir=x") == 1
    assert f"hydra.sweep.subdir: jobs 0 and 1 would share the folder {tmp_path / 'g' / 'x'};" in capsys.readouterr().err
    assert not (tmp_path / "g" / "x").exists()


def test_a_grid_that_slurm_runs_again_goes_on_in_its_folders(
    act: Callable[[Act], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    act(trains)
    words = (*SMALL, "seed=0,1,2", "hydra.sweep.dir=g")
    assert train_grid(tmp_path, *words) == 130
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    seen: list[dict[int, str | None]] = []

    def again(job: Job) -> None:
        seen.append({number: read_state(tmp_path / "g" / str(number)) for number in range(3)})
        raise KeyboardInterrupt

    act(again)
    capsys.readouterr()
    assert train_grid(tmp_path, *words) == 130
    assert seen == [{0: COMPLETE, 1: STOPPED, 2: NOT_RUN}], "what a job was stays known until it goes on"
    assert f"  segtrain train resume={tmp_path / 'g' / '1'}\n" in capsys.readouterr().out


def test_jobs_are_known_before_they_are_submitted_and_no_more_if_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str | None]] = []

    def submit(jobs: list[Job], *others: object) -> list[str]:
        seen.append([read_state(job.folder) for job in jobs])
        if len(seen) == 1:
            raise UserError("hydra.launcher: sbatch takes no such job")
        return [f"7_{job.number}" for job in jobs]

    monkeypatch.setattr(slurm, "submit", submit)
    words = (*SMALL, "hydra/launcher=slurm", "hydra.launcher.wait=false", "seed=0,1", "hydra.sweep.dir=g")
    assert train_grid(tmp_path, *words) == 1
    assert train_grid(tmp_path, *words) == 0, "the folders are free for the same command, once it can be submitted"
    assert seen == [[NOT_RUN, NOT_RUN]] * 2
    assert [run.status for group in collect(tmp_path / "g").groups for run in group.runs] == [NOT_RUN, NOT_RUN]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("planted")])
def test_jobs_whose_submission_is_broken_off_leave_their_folders_free(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def submit(*arguments: object) -> list[str]:
        raise error

    monkeypatch.setattr(slurm, "submit", submit)
    words = (*SMALL, "hydra/launcher=slurm", "seed=0,1", "hydra.sweep.dir=g")
    with pytest.raises(RuntimeError) if isinstance(error, RuntimeError) else nullcontext():
        assert train_grid(tmp_path, *words) == 130
    told = "SLURM may have taken the jobs already (squeue --me shows them"
    assert (told in capsys.readouterr().out) == isinstance(error, KeyboardInterrupt)
    monkeypatch.setattr(slurm, "submit", lambda jobs, *others: [f"7_{job.number}" for job in jobs])
    assert train_grid(tmp_path, *words, "hydra.launcher.wait=false") == 0


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
