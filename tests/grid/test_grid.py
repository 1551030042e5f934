"""Does a grid in one process run every job as if it were alone, whatever became of those before it?"""

import contextlib
import gc
import json
import logging
import os
import shlex
import signal
import subprocess
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import BANDS, run_segtrain, write_bands
from in_process import assert_equal
from in_this_process import run_train, train_grid

from segtrain.grid import fresh as fresh_module
from segtrain.grid.fresh import fresh
from segtrain.logs import start_logging
from segtrain.module import SegmentationModule
from segtrain.results.collect import collect
from segtrain.results.runs import Run
from segtrain.run_lock import release

FATE = "+callbacks.fate={_target_:fates.Fate,fate:none}"


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, ...]:
    """Return the overrides of a training of a second."""
    root = write_bands(tmp_path / "bands")
    return (*BANDS, f"dataset.root={root}", "trainer.max_epochs=1", "callbacks=none", "logger=none", FATE, "name=grid")


def sweep_of(folder: Path) -> Path:
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return sweep


def cells(output: str) -> list[list[str]]:
    """Return the words of each printed line."""
    return [line.split() for line in output.splitlines()]


def states(sweep: Path) -> dict[str, str]:
    """Return {job: state} of the records of its jobs."""
    return {path.parent.name: json.loads(path.read_text())["state"] for path in sorted(sweep.glob("*/trial.json"))}


def runs(sweep: Path) -> dict[str, Run]:
    """Return {job: what `segtrain results` knows of it}."""
    return {run.folder.name: run for group in collect(sweep).groups for run in (*group.runs, *group.repeats)}


def statuses(sweep: Path) -> dict[str, str]:
    """Return {job: status} of the results."""
    return {name: run.status for name, run in runs(sweep).items()}


def test_every_way_to_fail_is_in_its_own_log_and_the_others_go_on(
    small: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = train_grid(tmp_path, *small, "callbacks.fate.fate=error,leave,memory,none,unmade", "optimizer.lr=1e-3")
    sweep, out = sweep_of(tmp_path), capsys.readouterr().out
    assert status == 1
    assert states(sweep) == {"0": "failed", "1": "failed", "2": "failed", "3": "complete", "4": "failed"}
    logs = [(sweep / str(number) / "train.log").read_text() for number in range(5)]
    assert "Traceback (most recent call last)" in logs[0]
    assert "RuntimeError: planted" in logs[0]
    assert "it called sys.exit(3)" in logs[1]
    assert "out of memory on cpu" in logs[2]
    assert "Traceback" not in logs[2]
    assert "Traceback" not in logs[3]
    assert "RuntimeError: planted in two" in logs[4]
    metrics = json.loads((sweep / "3" / "metrics.json").read_text())
    assert not any(key.startswith("test/") for key in metrics), "jobs of a grid leave the test split alone"
    rows = [words for words in cells(out) if words[1:2] in (["done"], ["failed"])]
    assert rows[0] == ["3", "done", f"{metrics['val/miou']:.4f}", "callbacks.fate.fate=none"], "the best comes first"
    assert ["0", "failed", "callbacks.fate.fate=error"] in rows
    assert f"job 0 failed: RuntimeError: planted (see {sweep / '0' / 'train.log'})" in out
    assert "callbacks.fate.fate=error optimizer.lr=0.001 test=false hydra.run.dir=" in out
    assert f"segtrain eval checkpoint={sweep / '3' / 'checkpoints' / 'best.ckpt'} split=test" in out
    unmade = "Error in call to target 'fates.Fate': RuntimeError: planted in two lines"
    assert f"job 4 failed: {unmade} (see {sweep / '4' / 'train.log'})" in out
    reasons = {name: run.reason for name, run in runs(sweep).items()}
    assert reasons.pop("2").startswith("out of memory on cpu")
    assert reasons == {"0": "RuntimeError: planted", "1": "it called sys.exit(3)", "3": "", "4": unmade}, "once each"


def test_a_mistake_of_all_jobs_is_one_sentence(
    small: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_grid(tmp_path, *small, "seed=0,1", "+loader.batch_sizes=3") == 1
    said = capsys.readouterr()
    assert "loader.batch_sizes: no such key. Did you mean batch_size?" in said.err
    assert "status" not in said.out


@pytest.mark.parametrize(("fate", "status"), [("interrupt", 130), ("terminate", 75)])
def test_a_grid_that_is_ended_says_what_there_is_and_how_to_go_on(
    fate: str, status: int, small: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    values = f"callbacks.fate.fate=none,{fate},memory"
    assert train_grid(tmp_path, *small, values, "checkpoint.every_n_steps=1") == status
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before
    sweep, out = sweep_of(tmp_path), capsys.readouterr().out
    assert states(sweep) == {"0": "complete", "1": "stopped", "2": "not run"}
    assert statuses(sweep) == states(sweep)
    rows = [words[:2] for words in cells(out)]
    assert [rows.index(row) for row in (["0", "done"], ["1", "stopped"], ["2", "not"])]
    assert f"  segtrain train resume={sweep / '1'}\n" in out
    assert "\ntest: false\n" in (sweep / "1" / "config.yaml").read_text(), "who goes on with it leaves it alone too"
    (alone,) = (shlex.split(line) for line in out.splitlines() if line.endswith(f"hydra.run.dir={sweep / '2'}"))
    last = torch.load(sweep / "1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == (3 if fate == "terminate" else 2), "the step of a signal is saved"
    assert run_train(tmp_path, *alone[2:], "callbacks.fate.fate=terminate") == 75
    release()  # as the end of its process would
    assert statuses(sweep) == {"0": "complete", "1": "stopped", "2": "stopped"}, "it has been run since"


@pytest.mark.slow
def test_the_second_job_is_to_the_bit_what_it_is_alone(small: tuple[str, ...], tmp_path: Path) -> None:
    own = [word for word in small if word != FATE]
    assert train_grid(tmp_path, *small, "callbacks.fate.fate=litter,none") == 1
    done = run_segtrain("train", *own, "test=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (alone,) = (tmp_path / "outputs" / "runs").iterdir()
    sweep = sweep_of(tmp_path)
    assert states(sweep) == {"0": "failed", "1": "complete"}
    ours, theirs = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (sweep / "1", alone))
    for key in ("state_dict", "optimizer_states"):
        assert_equal(ours[key], theirs[key], key)
    scores = [json.loads((run / "metrics.json").read_text()) for run in (sweep / "1", alone)]
    assert scores[0]["val/miou"] == scores[1]["val/miou"]


def settings() -> list[object]:
    cudnn = torch.backends.cudnn
    return [
        *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)),
        *(dict(os.environ), list(warnings.filters), torch.get_default_dtype(), torch.get_num_threads()),
        *(torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
        *(cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_job_sets_is_put_back(fails: bool) -> None:
    before = settings()
    with contextlib.suppress(RuntimeError), fresh():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        os.environ["PL_GLOBAL_SEED"] = "3"
        os.environ.pop("HOME", None)
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        cudnn = torch.backends.cudnn
        cudnn.benchmark, cudnn.deterministic = not cudnn.benchmark, not cudnn.deterministic
        if fails:
            raise RuntimeError
    assert settings() == before


def test_a_warning_is_in_the_log_of_every_job(tmp_path: Path) -> None:
    root = logging.getLogger()
    kept, root.handlers = list(root.handlers), []
    try:
        for number in range(2):
            with fresh():
                start_logging(tmp_path / f"{number}.log")
                warnings.simplefilter("default")
                warnings.warn("planted", stacklevel=1)
        start_logging(None)
    finally:
        root.handlers = kept
    assert [(tmp_path / f"{number}.log").read_text().count("planted\n") for number in range(2)] == [1, 1]


def locked(path: Path) -> bool:
    """Say whether another process could not train there."""
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run(["python", "-c", code, str(path)], capture_output=True).returncode != 0


@pytest.fixture
def after_jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Return what is alive and held after each job, as it is filled."""
    seen: list[dict[str, float]] = []
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    for kind in (pl.Trainer, SegmentationModule, torch.utils.data.DataLoader):
        monkeypatch.setattr(kind, "__init__", remembered(kind.__init__, alive))
    forget = fresh_module.forget

    def forget_and_look() -> None:
        forget()
        gc.collect()
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        files = len(os.listdir("/proc/self/fd"))
        seen.append({"alive": len(alive), "threads": threading.active_count(), "files": files, "MiB": rss})

    monkeypatch.setattr(fresh_module, "forget", forget_and_look)
    return seen


def remembered(init, alive):  # type: ignore[no-untyped-def]
    def remember(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
        init(self, *arguments, **keywords)
        alive.add(self)

    return remember


@pytest.mark.slow
def test_nothing_of_a_job_is_left_after_it_whether_it_failed_or_not(
    small: tuple[str, ...], tmp_path: Path, after_jobs: list[dict[str, float]]
) -> None:
    own = [word for word in small if word not in ("logger=none", "callbacks=none")]
    status = train_grid(tmp_path, *own, "seed=0,1", "callbacks.fate.fate=none,error,memory")
    assert status == 1
    assert len(after_jobs) == 6
    assert [after["alive"] for after in after_jobs] == [0] * 6
    for name in ("threads", "files"):
        assert len({after[name] for after in after_jobs[2:]}) == 1, [after[name] for after in after_jobs]
    assert after_jobs[-1]["MiB"] - after_jobs[2]["MiB"] < 25, [after["MiB"] for after in after_jobs]
    assert not locked(sweep_of(tmp_path) / "5" / "config.yaml")
