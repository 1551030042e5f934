"""Does a signal end a run with a checkpoint, and does a job that SLURM runs again go on in its folder?"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from segtrain import signals
from segtrain.callbacks.checkpoints import KeepLast
from segtrain.callbacks.stop import STOPPED, StopOnSignal, Stopped

JOB = {"SLURM_JOB_ID": "123", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}


def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, saved = KeepLast(tmp_path), []
    monkeypatch.setattr(keep, "save", lambda trainer: saved.append(trainer.global_step))
    stop = StopOnSignal(keep)
    progress = SimpleNamespace(
        batch_progress=SimpleNamespace(is_last_batch=False), _should_check_val_fx=lambda fetcher: False
    )
    trainer: Any = SimpleNamespace(
        global_step=0,
        world_size=1,
        is_global_zero=True,
        fit_loop=SimpleNamespace(epoch_loop=progress, _data_fetcher=object()),
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


def test_a_signal_before_training_is_obeyed_after_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = {number: signal.getsignal(number) for number in signals.SIGNALS}
    monkeypatch.setattr(signals, "EARLY", early := [])
    monkeypatch.setattr("segtrain.callbacks.stop.EARLY", early)
    trainer: Any = SimpleNamespace(global_step=0)
    try:
        signals.note_signals()
        os.kill(os.getpid(), signal.SIGUSR1)
        stop = StopOnSignal(KeepLast(tmp_path))
        stop.on_train_start(trainer, None)  # type: ignore[arg-type]
        assert stop.received == signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        early.clear()
        stop.on_train_start(trainer, None)  # type: ignore[arg-type]
        assert stop.received == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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


def test_after_training_signals_do_what_they_did_before(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    trainer: Any = SimpleNamespace(global_step=0)
    stop = StopOnSignal(KeepLast(tmp_path))
    stop.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert all(signal.getsignal(number) == stop._note for number in signals.SIGNALS)
    stop.on_train_end(trainer, None)  # type: ignore[arg-type]
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before
