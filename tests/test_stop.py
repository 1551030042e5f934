"""Is a job of SLURM's asked for again in its own name, and does it go on in its own folder?"""

import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from segtrain.build import trainer
from segtrain.callbacks.checkpoints import KeepLast
from segtrain.callbacks.stop import STOPPED, StopOnSignal, Stopped, requeue_job

JOB = {"SLURM_JOB_ID": "123", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}


def scontrol(folder: Path, status: int) -> None:
    """Put a `scontrol` into a folder that writes down what it was asked."""
    path = folder / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\necho refused >&2\nexit {status}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [(JOB, "requeue 123"), ({**JOB, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 7_3")],
)
def test_a_job_is_asked_for_by_its_id(
    environment: dict[str, str], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    scontrol(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requeue_job()
    assert (tmp_path / "asked").read_text().strip() == asked
    assert f"SLURM runs job {asked.split()[1]} again" in caplog.text


@pytest.mark.parametrize("there", [True, False])
def test_a_refusal_is_said_and_is_no_crash(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    if there:
        scontrol(tmp_path, 1)
    monkeypatch.setenv("PATH", str(tmp_path) if not there else f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    requeue_job()
    assert "SLURM does not run job 123 again: " in caplog.text
    assert ("refused" in caplog.text) is there


def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, saved = KeepLast(tmp_path), []
    monkeypatch.setattr(keep, "save", lambda trainer: saved.append(trainer.global_step))
    stop = StopOnSignal(keep)
    progress = SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=False))
    trainer: Any = SimpleNamespace(
        global_step=0,
        world_size=1,
        is_global_zero=True,
        fit_loop=SimpleNamespace(epoch_loop=progress),
        strategy=SimpleNamespace(launcher=None),
    )
    arguments: Any = (trainer, None, None, None, 0)
    trainer.global_step = 1
    stop.on_train_batch_end(*arguments)  # nothing asked
    stop.received = 15
    stop.on_train_batch_end(*arguments)  # a batch of an accumulated step
    trainer.global_step, progress.batch_progress.is_last_batch = 2, True
    stop.on_train_batch_end(*arguments)  # the epoch's validation first
    assert saved == []
    with pytest.raises(Stopped) as ended:
        stop.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert (ended.value.code, ended.value.name, saved) == (STOPPED, "SIGTERM", [2])


def test_the_first_rank_waits_for_the_others_and_is_not_killed_when_one_has_ended(tmp_path: Path) -> None:
    launcher = _SubprocessScriptLauncher.__new__(_SubprocessScriptLauncher)
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(75)"])
    late = subprocess.Popen(["sleep", "60"])
    launcher.procs = [other, late]
    observed = launcher.procs
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(launcher=launcher))
    with pytest.raises(Stopped) as ended:
        StopOnSignal(KeepLast(tmp_path))._end(trainer, signal.SIGTERM)
    assert observed == []  # Lightning's observer looks at this list
    ended.value.wait(seconds=0.5)
    late.wait(5)
    assert (other.returncode, late.returncode) == (75, -signal.SIGKILL)


@pytest.mark.slow
def test_a_job_that_slurm_runs_again_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bands: tuple[str, ...], segtrain: Any
) -> None:
    once = segtrain("train", *bands, "trainer.max_epochs=1", "test=false", **JOB)
    assert once.returncode == 0, once.stderr
    run = tmp_path / "outputs" / "runs" / "train-slurm-123"
    again = segtrain("train", *bands, "trainer.max_epochs=2", "test=false", **JOB)
    assert again.returncode == 1
    assert "another run is here already" in again.stderr
    done = segtrain("train", *bands, "trainer.max_epochs=2", "test=false", **JOB, SLURM_RESTART_COUNT="1")
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoints' / 'last.ckpt'}, epoch 2, batch 1" in done.stdout
    shutil.rmtree(run / "checkpoints")  # taken away before it could save
    anew = segtrain("train", *bands, "trainer.max_epochs=1", "test=false", **JOB, SLURM_RESTART_COUNT="2")
    assert anew.returncode == 0, anew.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (JOB, True),
        ({**JOB, "SLURM_JOB_NAME": "bash"}, False),  # `srun --pty bash`
        ({**JOB, "TORCHELASTIC_RUN_ID": "x", "RANK": "0"}, False),  # `srun torchrun`
        ({}, False),
    ],
)
def test_ranks_come_from_slurm_only_where_it_starts_them(
    environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trainer._starts_by_slurm() is expected
