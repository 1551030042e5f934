"""What do the levels of `deterministic` cost: seconds a step and peak memory of none, seeded and exact?

Each level trains in a process of its own, none, seeded, exact, none, ... in turn, with the Trainer, the logger and all
callbacks. Printed are the medians of the rounds' ratios to `none`. Peak memory is what tensors take on a GPU, and what
the main process has resident on a CPU. Validation and checkpoints are left out.

    python scripts/bench_deterministic.py --rounds 5 --steps 40
    python scripts/bench_deterministic.py --model deeplabv3plus --device gpu loss=ce dataset.crop_size=256

Further arguments are overrides of `segtrain train`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEVELS = ("none", "seeded", "exact")
WARM_UP = 3  # steps that are not counted


def measure(level: str, *, steps: int, overrides: list[str]) -> dict[str, Any]:
    """Train in this process; return seconds a step, peak bytes and the device's name."""
    import pytorch_lightning as pl
    import torch
    from hydra import compose, initialize_config_dir

    from segtrain import build
    from segtrain.config.check import check_keys, plain_config
    from segtrain.config.locate import config_dir
    from segtrain.config.schema import TrainConfig
    from segtrain.hardware import set_backends

    class Clock(pl.Callback):
        """Note when the warm-up ends and when the last step does, both with the device's work done."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step in (WARM_UP, steps):
                if trainer.strategy.root_device.type == "cuda":
                    torch.cuda.synchronize()
                self.times.append(time.perf_counter())

    os.environ["SEGTRAIN_RUN_ID"] = "bench"
    fixed = ["trainer.max_epochs=-1", f"++trainer.max_steps={steps}", "++trainer.limit_val_batches=0"]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        composed = compose("train", overrides=[f"deterministic={level}", *fixed, *overrides])
    cfg, clock = check_keys(composed, TrainConfig), Clock()
    set_backends(level)
    pl.seed_everything(cfg["seed"], workers=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        data = build.build_data(cfg)
        module = build.build_module(cfg, plain=plain_config(composed), total_steps=steps)
        callbacks = [*build.build_callbacks(cfg, run, total_steps=steps), clock]
        trainer = build.build_trainer(cfg, run, callbacks=callbacks, logger=build.build_logger(cfg, run))
        trainer.fit(module, datamodule=data)
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = (clock.times[1] - clock.times[0]) / (steps - WARM_UP)
    name = torch.cuda.get_device_name() if on_gpu else f"{device.type}, {torch.get_num_threads()} threads"
    return {"seconds": seconds, "peak": peak, "device": name}


def in_a_process(level: str, *, steps: int, overrides: list[str]) -> dict[str, Any]:
    """Measure in a process of its own, so that no level has another's memory, kernels or settings."""
    command = [sys.executable, __file__, "--level", level, "--steps", str(steps), *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{level}: the run failed\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unet", help="as model= of `segtrain train`")
    parser.add_argument("--device", default="auto", help="as trainer=: auto, cpu, gpu, ...")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each level")
    parser.add_argument("--steps", type=int, default=40, help=f"optimizer steps of a run, {WARM_UP} of them to warm up")
    parser.add_argument("--level", choices=LEVELS, help="measure this level alone and print JSON")
    arguments, overrides = parser.parse_known_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps: {arguments.steps} leaves nothing to measure after {WARM_UP} to warm up")
    if arguments.level:
        print(json.dumps(measure(arguments.level, steps=arguments.steps, overrides=overrides)))
        return
    overrides = [f"model={arguments.model}", f"trainer={arguments.device}", "loader.cache=ram", *overrides]
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(arguments.rounds):
        rounds.append({level: in_a_process(level, steps=arguments.steps, overrides=overrides) for level in LEVELS})
        found = ", ".join(
            f"{k} {v['seconds'] * 1e3:.1f} ms, {v['peak'] / 2**20:.0f} MiB" for k, v in rounds[-1].items()
        )
        print(f"round {number}: {found}", flush=True)
    print(f"{arguments.model} on {rounds[0]['none']['device']}, medians of {len(rounds)} rounds, beside none:")
    for level in LEVELS[1:]:
        time_ratio, memory_ratio = (
            statistics.median(measured[level][key] / measured["none"][key] for measured in rounds)
            for key in ("seconds", "peak")
        )
        print(f"  {level}: time a step {time_ratio:.3f}, peak memory {memory_ratio:.3f}")


if __name__ == "__main__":
    main()
