"""A callback for `torture_resume.py`: says in a small file what a run is doing, so that it can be killed doing that."""

import os
from typing import Any

import pytorch_lightning as pl

VARIABLE = "TORTURE_PLACE"
WIDTH = 40


class Watch(pl.Callback):
    """Write "phase step" over and over to the file that the environment names; the first rank does."""

    def __init__(self) -> None:
        self.file = -1

    def say(self, trainer: pl.Trainer, phase: str) -> None:
        if not trainer.is_global_zero or VARIABLE not in os.environ:
            return
        if self.file < 0:
            self.file = os.open(os.environ[VARIABLE], os.O_WRONLY)
        os.pwrite(self.file, f"{phase} {trainer.global_step}".ljust(WIDTH).encode(), 0)

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say(trainer, "training")

    def on_save_checkpoint(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say(trainer, "writing")  # what follows is the writing, up to the next batch

    def on_validation_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say(trainer, "validation")

    def on_fit_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say(trainer, "end")

    def on_test_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.say(trainer, "test")
