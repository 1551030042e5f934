"""A callback that ends a training of a grid in one of the ways in which trainings end."""

import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch

from segtrain.callbacks.stop import StopOnSignal


class Fate(pl.Callback):
    """Act before the third step.

    Args:
        fate: what happens.
    """

    def __init__(self, fate: str) -> None:
        self.fate = fate
        if fate == "unmade":
            raise RuntimeError("planted in two\nlines")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == 2:
            getattr(self, self.fate)(trainer)

    def none(self, trainer: pl.Trainer) -> None:
        """Go on."""

    def error(self, trainer: pl.Trainer) -> None:
        raise RuntimeError("planted")

    def leave(self, trainer: pl.Trainer) -> None:
        sys.exit(3)

    def memory(self, trainer: pl.Trainer) -> None:
        raise torch.OutOfMemoryError("planted")

    def interrupt(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def terminate(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def litter(self, trainer: pl.Trainer) -> None:
        """Change what the next job would find."""
        warnings.simplefilter("ignore")
        os.environ["PL_GLOBAL_SEED"] = "17"
        torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(True)
        raise RuntimeError("planted")

    def kill(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def preempt(self, trainer: pl.Trainer) -> None:
        """Have SLURM warn its job, once."""
        if "SLURM_RESTART_COUNT" in os.environ:
            return
        (stop,) = [callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal)]  # type: ignore[attr-defined]
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        # scancel is one of the job's processes, all of which get the signal
        subprocess.run(["env", "--ignore-signal=USR1", "scancel", "--signal=USR1", job], check=True)
        deadline = time.monotonic() + 60
        while not stop.received and time.monotonic() < deadline:
            time.sleep(0.05)
