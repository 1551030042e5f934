"""Do memory that runs out and samples that cannot be read end, or are passed over, with what to do?"""

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Run
from torch.utils.data import DataLoader, Dataset

from segtrain.data.mixing import ClassMix
from segtrain.data.steps import images_at_a_time
from segtrain.errors import UserError, loader_died
from segtrain.jobs import _worded
from segtrain.training import _out_of_memory

GREEDY = """\
import pytorch_lightning as pl
import torch
class Greedy(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        {line}
"""


@pytest.mark.parametrize(
    "line",
    ['raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")', "torch.empty(2**60)"],
    ids=["a GPU", "the CPU"],
)
def test_memory_that_runs_out_is_a_sentence_with_what_to_change(
    line: str, segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY.format(line=line))
    done = segtrain("train", *bands, "+callbacks.greedy={_target_:greedy.Greedy}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (
        "out of memory on cpu, with 2 images a device at a time; give trainer.accumulate_grad_batches=2 ("
        in done.stderr
    )


@pytest.mark.parametrize(("images", "parts"), [(2, 2), (9, 3), (7, 7), (1, None)])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_parts_that_spare_memory_are_not_refused(images: int, parts: int | None, mixed: bool) -> None:
    devices, scale = 2, 2 if mixed else 1  # pairs stay whole
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), world_size=devices)
    mix = ClassMix(ignore_index=255) if mixed else None
    data: Any = SimpleNamespace(batch_size=images * scale * devices * 3, accumulation=3, mix=mix)
    sentence = _out_of_memory(trainer, data)
    found = re.search(r"accumulate_grad_batches=(\d+)", sentence)
    assert (int(found[1]) if found else None) == (parts and 3 * parts)
    if found:
        images_at_a_time(data.batch_size, devices=devices, accumulation=int(found[1]), pairs=mixed)


def break_image(root: Path) -> Path:
    path = sorted((root / "train").iterdir())[1]
    path.write_bytes(path.read_bytes()[:60])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_ends_the_run_or_is_replaced_and_counted(
    workers: int, segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    path = break_image(tmp_path / "bands")
    own = (*bands, f"loader.num_workers={workers}", "test=false", "trainer.max_epochs=2")
    stopped = segtrain("train", *own)
    assert stopped.returncode == 1
    assert f"{path}: " in stopped.stderr
    assert "Traceback" not in stopped.stderr
    done = segtrain("train", *own, "loader.bad_samples=skip")
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert output.count(f"left out: {path}: ") == 1
    assert "1 training samples cannot be read; others took their place 2 times" in output


class Suicidal(Dataset[int]):
    """Samples of which the second ends the worker that loads it."""

    def __init__(self, *, status: int | None) -> None:
        self.status = status

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL) if self.status is None else os._exit(self.status)
        return index


@pytest.mark.parametrize("status", [None, 3], ids=["killed", "exited"])
def test_a_loader_worker_that_dies_is_a_sentence_with_what_to_change(status: int | None, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError) as error, _worded(tmp_path):
        list(DataLoader(Suicidal(status=status), num_workers=1))
    sentence = str(error.value)
    assert sentence.startswith("a process that loads samples died (DataLoader worker (pid")
    assert "give a smaller loader.num_workers or loader.batch_size" in sentence
    assert sentence.endswith(f"; go on with: segtrain train resume={tmp_path}")
    assert "Traceback" not in sentence


def test_a_full_shared_memory_has_its_own_remedy() -> None:
    said = (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit."
    )
    sentence = loader_died(RuntimeError(said))
    assert sentence is not None
    assert "(DataLoader worker (pid 7) is killed by signal: Bus error): shared memory (/dev/shm) is full" in sentence
    assert "docker run --shm-size=8g" in sentence
    assert loader_died(RuntimeError("shapes differ")) is None
    assert loader_died(ValueError("DataLoader worker")) is None
