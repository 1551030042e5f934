"""Do two processes give one run folder, the score of one process, and the steps of one process?"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import BANDS, Run, only_run, run_segtrain, write_bands

# no batch norm: its statistics are per process
NET = (
    "from torch import nn\n"
    "class Net(nn.Module):\n"
    "    def __init__(self, num_classes: int):\n"
    "        super().__init__()\n"
    "        self.layers = nn.Sequential(\n"
    "            nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, num_classes, 1))\n"
    "    def forward(self, image):\n"
    "        return self.layers(image)\n"
)
OVERRIDES = (
    *(argument for argument in BANDS if not argument.startswith(("model.", "trainer=", "trainer.check"))),
    "model={_target_:mynet.Net,num_classes:3}",
    "loss=ce",
    "optimizer=sgd",
    "loader.batch_size=4",
)


def train(folder: Path, *overrides: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    (folder / "mynet.py").write_text(NET)
    root = write_bands(folder / "bands")
    (folder / "my" / "model").mkdir(parents=True)
    (folder / "my" / "model" / "net.yaml").write_text("# Net\n_target_: mynet.Net\nnum_classes: 3\n")
    arguments = [argument if not argument.startswith("model=") else "model=net" for argument in OVERRIDES]
    done = run_segtrain("train", "--config-dir", "my", *arguments, f"dataset.root={root}", *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder), done


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("single"), "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2")[
        0
    ]


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("double")
    parts = "trainer.accumulate_grad_batches=2"  # of one image each
    return train(folder, "trainer=ddp_cpu", "trainer.precision=32-true", "trainer.max_epochs=2", parts)[0]


def test_two_processes_make_one_run_folder(double: Path) -> None:
    assert (double / "metrics.json").is_file()
    assert (double / "train.log").is_file()
    assert not list(double.glob("*process*"))


def test_two_processes_of_two_parts_take_the_steps_of_one(single: Path, double: Path) -> None:
    one, two = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (single, double))
    assert one["global_step"] == two["global_step"]
    for name, tensor in one["training_state_dict"].items():
        torch.testing.assert_close(two["training_state_dict"][name], tensor, rtol=1e-4, atol=1e-5)


def test_the_score_of_the_same_weights_is_the_same_for_two_processes(single: Path) -> None:
    checkpoint = f"checkpoint={single / 'checkpoints' / 'best.ckpt'}"
    done = run_segtrain(
        "eval", checkpoint, "trust=[mynet]", "trainer.devices=2", "++trainer.strategy=ddp", cwd=single.parents[2]
    )
    assert done.returncode == 0, done.stderr
    scored = json.loads((single / "eval" / "test" / "metrics.json").read_text())
    metrics = json.loads((single / "metrics.json").read_text())
    for name in ("test/miou", "test/pixel_accuracy", "test/iou/a", "test/f1/c"):
        assert scored[name] == pytest.approx(metrics[name], abs=1e-12)


def test_a_batch_that_does_not_divide_is_a_sentence(segtrain: Run, bands: tuple[str, ...]) -> None:
    own = [argument for argument in bands if argument != "trainer=cpu"]
    done = segtrain("train", *own, "trainer=ddp_cpu", "loader.batch_size=3")
    assert done.returncode == 1
    assert "loader.batch_size: 3 images cannot be divided over 2 devices; give a multiple of 2" in done.stderr


def test_torchrun_makes_one_folder_named_by_its_id(bands: tuple[str, ...], tmp_path: Path) -> None:
    own = [argument for argument in bands if argument != "trainer=cpu"]
    rendezvous = ("--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=night7")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *rendezvous, "-m", "segtrain", "train", *own, "trainer=ddp_cpu",
         "trainer.max_epochs=1", "test=false"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path).name == "train-night7"


def test_torchrun_without_an_id_is_refused(segtrain: Run) -> None:
    done = segtrain("train", TORCHELASTIC_RUN_ID="none")
    assert done.returncode == 1
    assert "add --standalone (one machine) or --rdzv-id=NAME (several)" in done.stderr


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_two(double: Path, segtrain: Run, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(double, run)
    (tmp_path / "mynet.py").write_text(NET)
    done = segtrain("train", f"resume={run}", "trust=[mynet]", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    before, after = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (double, run))
    assert after["epoch"] == 2
    assert after["global_step"] == before["global_step"] // 2 * 3
