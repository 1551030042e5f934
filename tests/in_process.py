"""The train command's steps in this process, to be stopped at a step and resumed without starting Python again."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from conftest import Compose

from segtrain import build
from segtrain.checkpoint import LAST, position, read_checkpoint
from segtrain.config.check import check_keys, plain_config
from segtrain.config.schema import TrainConfig
from segtrain.schedulers import schedule_length


class HaltError(Exception):
    """What a kill is to a process."""


class HaltAt(pl.Callback):
    """End training before the optimizer step of this number, without any goodbye."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any, **keywords: Any) -> None:
        if trainer.global_step == self.step:
            raise HaltError


def fit(compose: Compose, run: Path, *overrides: str, seen: list[pl.Callback] | None = None) -> pl.Trainer:
    """Train in a folder, from its last checkpoint if it has one.

    Args:
        compose: the fixture `compose_config`.
        run: the run folder.
        overrides: of the train command.
        seen: further callbacks, which come first.
    """
    composed = compose(*overrides, "callbacks=none", "logger=none")
    cfg = check_keys(composed, TrainConfig)
    path = run / "checkpoints" / LAST
    resumed = path.is_file()
    pl.seed_everything(cfg["seed"], workers=True, verbose=False)
    data = build.build_data(cfg, start=position(read_checkpoint(path)) if resumed else (0, 0))
    steps = schedule_length(cfg["trainer"], data.batches_per_epoch(1))
    module = build.build_module(cfg, plain=plain_config(composed), total_steps=steps, restore=resumed)
    run.mkdir(parents=True, exist_ok=True)
    callbacks = [*(seen or []), *build.build_callbacks(cfg, run, total_steps=steps)]
    trainer = build.build_trainer(cfg, run, callbacks=callbacks, batches_per_epoch=data.batches_per_epoch(1))
    trainer.fit(module, datamodule=data, ckpt_path=str(path) if resumed else None, weights_only=True)
    return trainer


def last(run: Path) -> dict[str, Any]:
    """Return a run's last checkpoint."""
    return read_checkpoint(run / "checkpoints" / LAST)


def assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    """Compare nested states to the bit."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_equal(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(one, other, f"{where}[{number}]")
    else:
        assert ours == theirs, where
