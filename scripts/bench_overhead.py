"""What do Lightning and segtrain cost over a bare PyTorch loop with the same model, data, batch, loss and schedule?

Runs both in turn and prints the median of the pairs' ratios:

    python scripts/bench_overhead.py --rounds 5 --steps 40
    python scripts/bench_overhead.py dataset.crop_size=256 trainer=gpu       # any override of `segtrain train`
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from segtrain import build
from segtrain.config.check import check_keys, plain_config
from segtrain.config.locate import config_dir
from segtrain.config.schema import TrainConfig
from segtrain.data.sampler import EpochSampler
from segtrain.hardware import precision_of

WARM_UP = 3  # steps at the start of each part that are not counted


class Clock(pl.Callback):
    """Note the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.times.append(time.perf_counter())


def step_times(times: list[float]) -> float:
    """Return the mean seconds a step, the warm-up left out."""
    return (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def with_segtrain(cfg: dict[str, Any], plain: dict[str, Any], steps: int) -> float:
    """Train with the Trainer, the logger and all callbacks of the configuration."""
    with tempfile.TemporaryDirectory() as folder:
        data = build.build_data(cfg)
        module = build.build_module(cfg, plain=plain, total_steps=steps)
        clock = Clock()
        run = Path(folder)
        callbacks = [*build.build_callbacks(cfg, run, total_steps=steps), clock]
        logger = build.build_logger(cfg, run)
        trainer = build.build_trainer(cfg, run, callbacks=callbacks, logger=logger)
        trainer.fit(module, datamodule=data)
    return step_times(clock.times)


def bare_loop(cfg: dict[str, Any], plain: dict[str, Any], steps: int) -> float:
    """Train with nothing but torch."""
    module = build.build_module(cfg, plain=plain, total_steps=steps)
    device = torch.device("cuda" if torch.cuda.is_available() and cfg["trainer"]["accelerator"] != "cpu" else "cpu")
    module.to(device).train()
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    mixed = precision_of(cfg["trainer"]) == "bf16-mixed"
    loader = build.build_data(cfg).train_dataloader()
    sampler = loader.batch_sampler.sampler  # type: ignore[union-attr]
    assert isinstance(sampler, EpochSampler)
    times: list[float] = []
    epoch = 0
    while len(times) < steps:
        sampler.set_epoch(epoch)
        for batch in loader:
            image = batch["image"].to(device, non_blocking=True)
            mask = batch["mask"].to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = module.loss(module(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            times.append(time.perf_counter())
            if len(times) == steps:
                break
        epoch += 1
    return step_times(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=40, help="steps of each run")
    arguments, overrides = parser.parse_known_args()
    os.environ["SEGTRAIN_RUN_ID"] = "bench"
    fixed = ["ema=false", "++trainer.limit_val_batches=0", f"trainer.max_steps={arguments.steps}"]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        composed = compose("train", overrides=["trainer.max_epochs=-1", *fixed, *overrides])
    cfg, plain = check_keys(composed, TrainConfig), plain_config(composed)
    torch.manual_seed(0)
    ratios = []
    for number in range(arguments.rounds):
        order = (bare_loop, with_segtrain) if number % 2 == 0 else (with_segtrain, bare_loop)
        seconds = {part: part(cfg, plain, arguments.steps) for part in order}
        ratios.append(seconds[with_segtrain] / seconds[bare_loop])
        bare, ours = seconds[bare_loop] * 1e3, seconds[with_segtrain] * 1e3
        print(f"round {number}: bare {bare:.1f} ms a step, segtrain {ours:.1f} ms, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio of {len(ratios)} pairs: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
