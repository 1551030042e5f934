"""A run that is asked to stop saves first: by SIGTERM, or the signals with which clusters announce an end."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from segtrain.callbacks.agreement import Agreement
from segtrain.callbacks.checkpoints import KeepLast, is_last_batch, validates_next
from segtrain.clusters.slurm import requeue_job
from segtrain.ranks.ending import STOPPED
from segtrain.signals import EARLY, SIGNALS


class Stopped(SystemExit):
    """A run that was asked to stop and has saved; its process ends with status 75.

    Args:
        name: of the signal.
        requeued: SLURM runs the job again, so that nobody has to; known to the first rank.
        processes: which this one started, and which end too.
    """

    def __init__(self, name: str, *, requeued: bool = False, processes: Sequence[subprocess.Popen[Any]] = ()) -> None:
        super().__init__(STOPPED)
        self.name = name
        self.requeued = requeued
        self.processes = processes

    def wait(self, seconds: float = 30) -> None:
        """Wait until the processes that this one started have ended, so that nothing is left running."""
        for process in self.processes:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()


class StopOnSignal(Checkpoint):
    """End all ranks after the running step once any of them got a signal; the step's checkpoint is written first.

    A validation that follows the step is waited for, since a run that goes on behind it would lack its score. One
    process does not wait for a validation that runs: it goes on from the last checkpoint and repeats it.

    Args:
        keep: writes the checkpoint.
        requeue: ask SLURM to run the job again.
    """

    def __init__(self, keep: KeepLast, *, requeue: bool = False) -> None:
        super().__init__()
        self.keep = keep
        self.requeue = requeue
        self.received = 0
        self.before: dict[int, Any] = {}  # what the signals did
        self.step = 0
        self.awaits_score = False
        self.agreement = Agreement()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step
        self.received = EARLY[-1] if EARLY else 0
        for number in SIGNALS:
            self.before[number] = signal.signal(number, self._note)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # the test ends at once: there is nothing more to save

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            return  # a batch of an accumulated step
        self.step = trainer.global_step
        if is_last_batch(trainer):
            return  # the end of the epoch stops
        self.awaits_score = validates_next(trainer)
        if not self.awaits_score:
            self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any, **more: Any) -> None:
        if self.received and trainer.world_size == 1:
            self._end(trainer, self.received)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.awaits_score:
            self.awaits_score = False
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if number := self.agreement.largest(self.received):
            self.keep.save(trainer)
            self._end(trainer, number)

    def _end(self, trainer: pl.Trainer, number: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it once the first rank has ended
        requeued = self.requeue and trainer.is_global_zero and requeue_job()
        raise Stopped(signal.Signals(number).name, requeued=requeued, processes=self._release(trainer))

    def _release(self, trainer: pl.Trainer) -> list[subprocess.Popen[Any]]:
        """Return the processes that this one started, and take them from Lightning's observer.

        It would kill this process once another has ended with a status of its own; so may srun.
        """
        launcher = trainer.strategy.launcher
        processes = list(launcher.procs) if isinstance(launcher, _SubprocessScriptLauncher) else []
        if processes:
            launcher.procs.clear()  # type: ignore[union-attr]  # the observer's list is the same
        self.agreement.largest(0)  # none ends before
        return processes
