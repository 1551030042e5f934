"""Does a run whose gradients are not finite say where, keep its checkpoints clean, or leave the step out?"""

import json
from pathlib import Path

import numpy as np
import torch
from conftest import Run, only_run

# infinite at the third optimizer step of the run, whatever process it is in
BREAK = """\
import pytorch_lightning as pl
class Break(pl.Callback):
    def __init__(self, step: int):
        self.step = step
    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.fill_(float("inf"))
"""


def test_a_run_stops_names_the_images_and_keeps_the_checkpoint_before(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "breaker.py").write_text(BREAK)
    breaker = "+callbacks.break={_target_:breaker.Break,step:6}"
    done = segtrain("train", *bands, breaker, "checkpoint.every_n_steps=1", "loader.num_workers=1")
    run = only_run(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "epoch 2, batch 3: the gradients are not finite (NaN or infinity), at these images: " in done.stderr
    assert f"segtrain train resume={run} ++trainer.detect_anomaly=true" in done.stderr
    facts = json.loads((run / "nonfinite.json").read_text())
    assert (facts["epoch"], facts["batch"]) == (1, 2)
    assert all(name in done.stderr and Path(name).is_file() for name in facts["images"])
    assert len(facts["images"]) == 2
    batch = torch.load(run / "nonfinite.pt", weights_only=True)
    assert batch["image"].shape == (2, 3, 32, 32)
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in last["state_dict"].values())


def test_a_run_leaves_the_step_out_and_goes_on(segtrain: Run, bands: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "breaker.py").write_text(BREAK)
    breaker = "+callbacks.break={_target_:breaker.Break,step:2}"
    done = segtrain("train", *bands, breaker, "nonfinite=skip", "test=false", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert "epoch 1, batch 3: the gradients are not finite, so the step is left out" in done.stdout + done.stderr
    assert "1 steps were left out" in done.stdout + done.stderr
    last = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    weights = [tensor.numpy() for tensor in last["state_dict"].values()]
    assert all(np.isfinite(tensor).all() for tensor in weights)
