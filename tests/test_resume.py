"""Does a resumed run end with the same weights and files as one that was never stopped?"""

import contextlib
import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BANDS, Run, only_run, run_segtrain, write_bands
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtrain.checkpoint import read_checkpoint, verify

# dropout makes every step draw random numbers; momentum, schedule and average must all be carried over
MODEL = ("model=deeplabv3plus", "model/encoder=mobilenet_v3_small")
OVERRIDES = (
    *(argument for argument in BANDS if not argument.startswith("model.")),
    *MODEL,
    "trainer.max_epochs=4",
    "dataset.crop_size=64",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without a stop: the run folder to compare with."""
    folder = tmp_path_factory.mktemp("whole")
    root = write_bands(folder / "bands")
    done = run_segtrain("train", *OVERRIDES, f"dataset.root={root}", cwd=folder, warm=False)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def assert_same_end(run: Path, whole: Path) -> None:
    """Compare weights, average, optimizer, schedule and best score to the bit, and the rows of metrics.csv."""
    ours, theirs = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, whole))
    for key in ("state_dict", "training_state_dict"):
        for name, tensor in theirs[key].items():
            assert torch.equal(tensor, ours[key][name]), (key, name)
    for state, other in zip(
        theirs["optimizer_states"][0]["state"].values(), ours["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert all(torch.equal(state[name], other[name]) for name in state)
    assert theirs["lr_schedulers"][0]["last_epoch"] == ours["lr_schedulers"][0]["last_epoch"]
    best, other_best = (
        next(v["best_model_score"] for k, v in c["callbacks"].items() if k.startswith("KeepBest"))
        for c in (theirs, ours)
    )
    assert best == other_best
    rows, other_rows = (list(csv.DictReader((r / "metrics.csv").open())) for r in (whole, run))
    for row, other_row in zip(rows, other_rows, strict=True):
        for column in ("epoch", "step", "val/miou", "val/loss"):
            assert row[column] == other_row[column]


@pytest.mark.parametrize(
    ("stop", "every"),
    [
        (4, "null"),
        pytest.param(8, "null", marks=pytest.mark.slow),
        (6, "2"),
        pytest.param(7, "1", marks=pytest.mark.slow),
    ],
    ids=["end of epoch 1", "end of epoch 2", "mid-epoch", "last batch but one"],
)
def test_a_stopped_run_ends_as_one_never_stopped(
    stop: int, every: str, whole: Path, segtrain: Run, tmp_path: Path
) -> None:
    root = whole.parents[2] / "bands"
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import os, signal\n"
        "import pytorch_lightning as pl\n"
        "class Kill(pl.Callback):\n"
        "    def __init__(self, step: int):\n"
        "        self.step = step\n"
        "    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):\n"
        "        if trainer.global_step == self.step and not os.path.exists('killed'):\n"
        "            open('killed', 'w').close()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    kill = "+callbacks.kill={_target_:killer.Kill,step:" + str(stop) + "}"
    arguments = (*OVERRIDES, f"dataset.root={root}", f"checkpoint.every_n_steps={every}", kill)
    stopped = segtrain("train", *arguments)
    assert stopped.returncode == -signal.SIGKILL
    run = only_run(tmp_path)
    done = segtrain("train", f"resume={run}", "trust=[killer]", "loader.num_workers=1")
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path) == run
    assert f"epoch {stop // 4 + 1}, batch {stop % 4 + 1}" in done.stdout
    assert_same_end(run, whole)
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    steps = [event.step for event in accumulator.Scalars("train/loss")]
    assert steps == sorted(set(steps)), "a step is drawn twice"


SIGNALLER = """\
import os, signal
import pytorch_lightning as pl
class Signal(pl.Callback):
    def __init__(self, step: int, rank: int = 0, place: str = "batch"):
        self.step, self.rank, self.place = step, rank, place
    def send(self, trainer, place):
        due = trainer.global_step == self.step and trainer.global_rank == self.rank and place == self.place
        if due and not os.path.exists("signalled"):
            open("signalled", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.send(trainer, "batch")
    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.send(trainer, "validation")
"""


@pytest.mark.parametrize(
    ("step", "place", "saved"),
    [
        (5, "batch", 6),
        pytest.param(7, "batch", 4, marks=pytest.mark.slow),
        pytest.param(8, "validation", 4, marks=pytest.mark.slow),
    ],
    ids=["mid-epoch", "last batch of an epoch", "validation"],
)
def test_a_run_that_got_sigterm_has_saved_and_goes_on_as_if_never_stopped(
    step: int, place: str, saved: int, whole: Path, segtrain: Run, tmp_path: Path
) -> None:
    (tmp_path / "signaller.py").write_text(SIGNALLER)
    signaller = f"+callbacks.signal={{_target_:signaller.Signal,step:{step},place:{place}}}"
    stopped = segtrain("train", *OVERRIDES, f"dataset.root={whole.parents[2] / 'bands'}", signaller)
    run = only_run(tmp_path)
    assert stopped.returncode == 75, stopped.stderr
    assert "Traceback" not in stopped.stderr
    done_steps = step + (place == "batch")
    assert f"stopped by SIGTERM after step {done_steps}; go on with: segtrain train resume={run}" in stopped.stdout
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == saved
    done = segtrain("train", f"resume={run}", "trust=[signaller]")
    assert done.returncode == 0, done.stderr
    assert_same_end(run, whole)


def test_all_ranks_end_with_status_75_when_one_of_them_got_the_signal(segtrain: Run, tmp_path: Path) -> None:
    (tmp_path / "signaller.py").write_text(SIGNALLER)
    root = write_bands(tmp_path / "bands")
    signaller = "+callbacks.signal={_target_:signaller.Signal,step:2,rank:1}"
    stopped = segtrain("train", *BANDS, f"dataset.root={root}", "trainer=ddp_cpu", "trainer.max_epochs=50", signaller)
    assert stopped.returncode == 75, stopped.stderr
    run = only_run(tmp_path)
    assert "stopped by SIGTERM after step 3" in stopped.stdout
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not [line for line in process_table() if str(root) in line], "a rank is left"


def process_table() -> list[str]:
    """Return the command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    root = write_bands(tmp_path / "bands")
    command = [sys.executable, "-m", "segtrain", "train", *OVERRIDES, f"dataset.root={root}", "trainer.max_epochs=500"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs with the signal ignored, and they hand that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("outputs/runs/*/checkpoints/last.ckpt")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    run = only_run(tmp_path)
    assert process.returncode != 0
    assert f"go on with: segtrain train resume={run}" in out, err
    assert "Traceback" not in err


def test_a_damaged_last_checkpoint_is_passed_over(whole: Path, segtrain: Run, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(whole, run)
    last = run / "checkpoints" / "last.ckpt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    done = segtrain("train", f"resume={run}")
    assert done.returncode == 0, done.stderr
    assert f"resuming from {run / 'checkpoints' / 'previous.ckpt'}" in done.stdout
    assert_same_end(run, whole)


FILLER = """\
import os
import pytorch_lightning as pl
class Fill(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 9 and not os.path.exists("disk/filler"):
            disk = os.statvfs("disk")
            with open("disk/filler", "wb") as file:
                file.write(bytes(disk.f_bavail * disk.f_frsize - 20_000_000))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of its own, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_its_checkpoints_whole(
    whole: Path, segtrain: Run, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "filler.py").write_text(FILLER)
    own = (f"dataset.root={whole.parents[2] / 'bands'}", "checkpoint.every_n_steps=2", f"paths.output={small_disk}")
    stopped = segtrain("train", *OVERRIDES, *own, "+callbacks.fill={_target_:filler.Fill}")
    (run,) = (small_disk / "runs").iterdir()
    assert stopped.returncode == 1
    assert re.fullmatch(
        r"segtrain: the disk is full: \S+; free some space or give paths\.output=\S+ elsewhere; "
        r"go on with: segtrain train resume=\S+\n",
        stopped.stderr,
    )
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    steps = [read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("last", "previous")]
    assert steps == [8, 6]
    verify(run / "checkpoints" / "best.ckpt")
    (small_disk / "filler").write_bytes(b"")  # some space is freed
    done = segtrain("train", f"resume={run}", "trust=[filler]")
    assert done.returncode == 0, done.stderr
    assert_same_end(run, whole)


def test_a_run_that_is_training_is_not_resumed(whole: Path, segtrain: Run, tmp_path: Path) -> None:
    run = tmp_path / "busy"
    shutil.copytree(whole, run)
    with (run / "config.yaml").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = segtrain("train", f"resume={run}")
    assert done.returncode == 1
    assert "another process is training here" in done.stderr


def test_a_moved_run_keeps_its_best_score(whole: Path, segtrain: Run, tmp_path: Path) -> None:
    run = tmp_path / "moved"
    shutil.copytree(whole, run)
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    score = max(float(row["val/miou"]) for row in csv.DictReader((run / "metrics.csv").open()))
    done = segtrain("train", f"resume={run}", "trainer.max_epochs=5")
    assert done.returncode == 0, done.stderr
    later = [float(row["val/miou"]) for row in csv.DictReader((run / "metrics.csv").open())]
    assert len(later) == 5
    assert ((run / "checkpoints" / "best.ckpt").read_bytes() == best) == (later[-1] <= score)
    assert json.loads((run / "metrics.json").read_text())["val/miou"] == max(later)
    assert "resume=" in (run / "resumed-1.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=unet"], "model: no group of this name can be chosen here"),
        (["optimizer.lrr=1"], "optimizer.lrr: no such key. Did you mean optimizer.lr?"),
        (["dataset.num_classes=2", "dataset.class_names=[a,b]"], "dataset.num_classes: 2, and the run that is resumed"),
        (["optimizer.lr=1"], "optimizer.lr: 1, and the run that is resumed has"),
    ],
)
def test_resume_takes_values_and_no_other_model(
    whole: Path, segtrain: Run, overrides: list[str], sentence: str
) -> None:
    before = (whole / "checkpoints" / "last.ckpt").read_bytes()
    done: Any = segtrain("train", f"resume={whole}", *overrides)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert (whole / "checkpoints" / "last.ckpt").read_bytes() == before
