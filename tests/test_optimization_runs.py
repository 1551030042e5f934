"""Does a run with Muon, a plateau and learning rates by stage train, log them by name, and resume to the bit?"""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BANDS, only_run, run_segtrain, write_bands
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OVERRIDES = (
    *BANDS,
    "optimizer=muon",
    "optimizer.lr=0.04",
    "scheduler=plateau",
    "scheduler.patience=0",
    "scheduler.threshold=0.5",
    "param_groups.layer_decay=0.5",
    "param_groups.lr_scaling=sqrt",
    "param_groups.lr_scaling_base=16",
    "loader.batch_size=4",
    "trainer.accumulate_grad_batches=2",
    "test=false",
)


def train(folder: Path, *overrides: str, warm: bool = True) -> tuple[Path, str]:
    done = run_segtrain("train", *overrides, cwd=folder, warm=warm)
    assert done.returncode == 0, done.stderr
    return only_run(folder), done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Return a run of three epochs, one of two that was resumed for a third, and what the first said."""
    folders = [tmp_path_factory.mktemp(name) for name in ("whole", "part")]
    root = f"dataset.root={write_bands(folders[0] / 'bands')}"
    whole, said = train(folders[0], *OVERRIDES, root, "trainer.max_epochs=3", warm=False)
    part, _ = train(folders[1], *OVERRIDES, root, "trainer.max_epochs=2")
    train(folders[1], f"resume={part}", "trainer.max_epochs=3")
    return whole, part, said


def assert_equal(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert_equal(ours[key], value)
    elif isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(theirs, list | tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    else:
        assert ours == theirs


def test_the_resumed_run_ends_as_the_one_never_stopped(runs: tuple[Path, Path, str]) -> None:
    whole, part = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs[:2])
    for key in ("state_dict", "training_state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(part[key], whole[key])
    assert whole["lr_schedulers"][0]["last_epoch"] == 3
    states = whole["optimizer_states"][0]["state"].values()
    assert {tuple(sorted(state)) for state in states} == {("momentum_buffer",), ("exp_avg", "exp_avg_sq", "step")}


def test_the_scaled_learning_rate_is_said_and_falls_by_stage(runs: tuple[Path, Path, str]) -> None:
    run, _, said = runs
    assert "learning rate 0.04 for steps of 16 images is 0.02 for 4 (sqrt scaling)" in said.splitlines()
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    rates = {
        part: [event.value for event in accumulator.Scalars(f"lr-Muon/{part}")]
        for part in ("head_hidden", "head_other_no_decay", "encoder_stage3_hidden", "encoder_stage1_hidden")
    }
    assert rates["head_hidden"][0] == pytest.approx(0.02)
    assert rates["head_hidden"] == rates["head_other_no_decay"]
    assert rates["encoder_stage3_hidden"] == pytest.approx([rate / 2 for rate in rates["head_hidden"]])
    assert rates["encoder_stage1_hidden"] == pytest.approx([rate / 8 for rate in rates["head_hidden"]])
    assert rates["head_hidden"][-1] < rates["head_hidden"][0]  # no score is half as good again as the one before
