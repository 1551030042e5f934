"""Do two processes, and two machines under torchrun, train CamVid to the weights and scores of one process?"""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import only_run, run_segtrain
from torch import Tensor

COUNTS = {"train": 16, "val": 6, "test": 6}
# group norm knows no batch; SGD, as Adam's division by a gradient's size makes much of a tiny difference
OVERRIDES = (
    "dataset=camvid",
    "dataset.crop_size=128",
    "norm=group",
    "model.encoder.base_channels=8",
    "model.encoder.depth=3",
    "loss=ce",
    "optimizer=sgd",
    "optimizer.lr=0.02",
    "ema_decay=0.5",
    "inference.scale=0.5",
    "loader.batch_size=4",
    "loader.num_workers=0",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
)
OTHER_ORDER = """\
import pytorch_lightning as pl
class OtherOrder(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for name in ("image", "mask"):
            batch[name] = batch[name].flip(0)
"""


@pytest.fixture(scope="module")
def some_of_camvid(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with links to a few of CamVid's files, evenly out of each split."""
    root = tmp_path_factory.mktemp("camvid")
    for split, count in COUNTS.items():
        found = sorted((real_data / "camvid" / split).iterdir())
        for path in found[:: len(found) // count][:count]:
            mask = real_data / "camvid" / f"{split}annot" / f"{path.stem}.png"
            for folder, file in ((split, path), (f"{split}annot", mask)):
                (root / folder).mkdir(exist_ok=True)
                (root / folder / file.name).symlink_to(file.resolve())
    return root


def trained(root: Path, folder: Path, *own: str) -> Path:
    folder.mkdir(exist_ok=True)
    done = run_segtrain("train", *OVERRIDES, f"dataset.root={root}", *own, cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def trained_by_two_machines(root: Path, folder: Path) -> Path:
    """Start torchrun twice, as one would on two machines that see one disk."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-id=pair", "--master-addr=127.0.0.1"]
    arguments = ["-m", "segtrain", "train", *OVERRIDES, f"dataset.root={root}", "trainer=ddp_cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *rendezvous, f"--master-port={port}",
             f"--node-rank={number}", *arguments],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        said = [machine.communicate(timeout=300)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(said)
    assert "2 x cpu" in "".join(said)
    return only_run(folder)


def weights(run: Path) -> Tensor:
    """Return all weights and their average, as one vector."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    tensors = [*checkpoint["training_state_dict"].values(), *checkpoint["state_dict"].values()]
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def scores(run: Path) -> dict[str, float]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    found = {f"{number}/{key}": float(value) for number, row in enumerate(rows) for key, value in row.items() if value}
    found |= json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in found.items() if "perf/" not in key and value is not None}


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.slow
def test_two_processes_and_two_machines_train_camvid_as_one_process_does(some_of_camvid: Path, tmp_path: Path) -> None:
    (tmp_path / "reordered").mkdir()
    (tmp_path / "reordered" / "other_order.py").write_text(OTHER_ORDER)
    single = trained(some_of_camvid, tmp_path / "single", "trainer=cpu")
    # the same images in each batch, in another order: its sums differ in the last bits, and nothing else does
    own = ("trainer=cpu", "+callbacks.order={_target_:other_order.OtherOrder}")
    reordered = trained(some_of_camvid, tmp_path / "reordered", *own)
    double = trained(some_of_camvid, tmp_path / "double", "trainer=ddp_cpu")
    machines = trained_by_two_machines(some_of_camvid, tmp_path / "machines")

    expected, start = weights(single), scores(single)
    rounding = distance(weights(reordered), expected)
    found = {"two processes": double, "two machines": machines}
    apart = {name: distance(weights(run), expected) for name, run in found.items()}
    print(f"largest difference of a weight: reordered {rounding:.2g}, {apart}")
    assert 0 < rounding < 1e-4, "the steps are not comparable"
    for name, run in found.items():
        assert apart[name] < 5 * rounding, name
        assert scores(run) == pytest.approx(start, abs=1e-4), name
    assert torch.equal(weights(double), weights(machines)), "where the processes run makes no difference"
    assert start["1/train/epoch_loss"] < start["0/train/epoch_loss"]
    assert_scores_of_one_checkpoint_are_equal(single)


def assert_scores_of_one_checkpoint_are_equal(run: Path) -> None:
    """Score a checkpoint with two processes; one has scored it at the end of its run."""
    checkpoint = f"checkpoint={run / 'checkpoints' / 'best.ckpt'}"
    done: Any = run_segtrain("eval", checkpoint, "trainer.devices=2", "++trainer.strategy=ddp", cwd=run.parents[2])
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    expected = json.loads((run / "metrics.json").read_text())
    names = [name for name in expected if name.startswith("test/") and name != "test/loss"]
    assert len(names) > 20
    for name in names:
        assert found[name] == pytest.approx(expected[name], abs=1e-12), name
    assert found["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-6)  # of float32
