"""Do memory that runs out and samples that cannot be read end, or are passed over, with what to do?"""

from pathlib import Path

import pytest
from conftest import Run

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
