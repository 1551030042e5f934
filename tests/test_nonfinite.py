"""Does a run whose gradients are not finite say where, keep its checkpoints clean, or leave the step out?"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose, Run, only_run

from segtrain import build
from segtrain.callbacks.nonfinite import MOST_NAMED, NonFinite
from segtrain.config.check import check_keys
from segtrain.config.schema import TrainConfig
from segtrain.errors import UserError

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


@pytest.mark.parametrize("images", [4, 24])
def test_every_rank_names_the_images_of_all_and_the_first_writes_all_batches(
    images: int, compose_config: Compose, bands: tuple[str, ...], tmp_path: Path
) -> None:
    data = build.build_data(check_keys(compose_config(*bands, f"loader.batch_size={images}"), TrainConfig))
    data._repeats = [np.full(8, 6.0)]  # 48 images an epoch
    sentences, indices = [], []
    for rank in (1, 0):
        this: Any = SimpleNamespace(global_rank=rank, world_size=2, is_global_zero=rank == 0, datamodule=data)
        data.trainer = this
        indices += next(iter(data.train_dataloader()))["index"].tolist()
        watch = NonFinite(tmp_path, policy="stop")
        watch.places, watch.bad = [(0, 0)], [torch.tensor(True)]
        with pytest.raises(UserError) as caught:
            watch.on_save_checkpoint(this, this, {})
        sentences.append(str(caught.value))
        assert (tmp_path / "nonfinite.json").is_file() == (rank == 0)
    assert sentences[0] == sentences[1]
    facts = json.loads((tmp_path / "nonfinite.json").read_text())
    batches = torch.load(tmp_path / "nonfinite.pt", weights_only=True)
    written = [index for batch in batches for index in batch["index"].tolist()]
    assert [len(batch["index"]) for batch in batches] == [images // 2] * 2
    assert written == indices[images // 2 :] + indices[: images // 2] == [key["sample"] for key in facts["samples"]]
    named = ", ".join(facts["images"][:MOST_NAMED])
    more = " and 4 more (nonfinite.json)" if images == 24 else ""
    assert len(facts["images"]) == images
    assert f"at these images: {named}{more}; " in sentences[0]
