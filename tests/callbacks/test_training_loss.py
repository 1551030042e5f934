"""Is the loss of an epoch the mean over its images, also if the run was resumed in it or has two ranks?"""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinySamples, evaluation_loader, tiny_module, trainer, training_loader
from two_processes import run_in_two_processes

from segtrain.callbacks.training_loss import TrainingLoss
from segtrain.checkpoint import position, read_checkpoint


class Seen(pl.Callback):
    """Collect the loss of every batch, what loggers get, and the losses of epochs; write a checkpoint every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *arguments: Any) -> None:
        self.steps.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append(float(trainer.callback_metrics["train/epoch_loss"]))


class Memory(pl.loggers.logger.DummyLogger):
    """Keep what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
        self.points.append((step, metrics))


def fit(folder: Path, *, start: Path | None = None, **options: Any) -> tuple[Seen, Memory]:
    seen, logger = Seen(folder), Memory()
    where = (0, 0) if start is None else position(read_checkpoint(start))
    lightning = trainer(folder, TrainingLoss(), seen, **{"max_epochs": 3, "log_every_n_steps": 1, **options})
    lightning.logger = logger
    lightning.fit(tiny_module(), training_loader(TinySamples(), start=where), ckpt_path=start, weights_only=True)
    return seen, logger


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    seen, _ = fit(tmp_path)
    means = torch.tensor(seen.steps).view(3, 3).mean(dim=1).tolist()
    assert seen.epochs == pytest.approx(means, rel=1e-6)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_a_resumed_run_has_the_losses_and_the_curve_of_one_never_stopped(tmp_path: Path) -> None:
    seen, logger = fit(tmp_path)
    curve = [(step, metrics["train/loss"]) for step, metrics in logger.points]
    assert curve == [(step, pytest.approx(loss)) for step, loss in enumerate(seen.steps)]
    for step in range(1, 9):
        resumed, again = fit(tmp_path / "again", start=tmp_path / f"{step}.ckpt")
        assert resumed.epochs == seen.epochs[step // 3 :], step
        assert [(step, metrics["train/loss"]) for step, metrics in again.points] == curve[step:]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_accumulated_batches_count_in_full(tmp_path: Path) -> None:
    seen, logger = fit(tmp_path, accumulate_grad_batches=3)
    assert seen.epochs == pytest.approx(torch.tensor(seen.steps).view(3, 3).mean(dim=1).tolist(), rel=1e-6)
    means = torch.tensor(seen.steps).view(3, 3).mean(dim=1).tolist()
    assert [(step, metrics["train/loss"]) for step, metrics in logger.points] == [
        (step, pytest.approx(mean)) for step, mean in enumerate(means)
    ]


class Points(pl.Callback):
    """A logger hears of each step before its checkpoint is written."""

    def __init__(self, logger: Memory) -> None:
        self.logger = logger
        self.heard: list[int] = []

    def on_save_checkpoint(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.heard.append(self.logger.points[-1][0] + 1 - trainer.global_step)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_the_point_of_a_step_is_drawn_before_its_checkpoint_is_written(tmp_path: Path) -> None:
    logger = Memory()
    points = Points(logger)
    lightning = trainer(tmp_path, TrainingLoss(), points, Seen(tmp_path), max_epochs=1, log_every_n_steps=1)
    lightning.logger = logger
    lightning.fit(tiny_module(), training_loader(TinySamples()), evaluation_loader(TinySamples(2)))
    assert points.heard == [0, 0, 0]


class Rank:
    """What `TrainingLoss` needs of a module and a Trainer, in one of two processes."""

    device = torch.device("cpu")
    accumulate_grad_batches, current_epoch, global_step, world_size = 1, 0, 1, 2

    def __init__(self, rank: int) -> None:
        self.global_rank, self.logged = rank, 0.0

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        found = [torch.zeros_like(tensor) for _ in range(2)]
        torch.distributed.all_gather(found, tensor)
        return torch.stack(found)

    def log(self, name: str, value: torch.Tensor, **options: Any) -> None:
        self.logged = float(value)


def losses_of_two_ranks(rank: int) -> list[float]:
    """Go through half of an epoch, save, load into a new object, and go through the other half."""
    this: Any = Rank(rank)
    first, second, checkpoint = TrainingLoss(), TrainingLoss(), {}
    for callback, values in ((first, (1.0, 2.0)), (second, (4.0,))):
        callback.step = 1  # nothing for the curve
        for value in values:
            outputs = {"loss": torch.tensor(value + 10 * rank)}
            callback.on_train_batch_end(this, this, outputs, {"index": torch.zeros(2 + rank)}, 0)
        if callback is first:
            first.on_save_checkpoint(this, this, checkpoint)
            second.on_load_checkpoint(this, this, checkpoint)
    second.on_train_epoch_end(this, this)
    alone: Any = Rank(0)
    alone.world_size = 1
    third = TrainingLoss()
    third.on_load_checkpoint(alone, alone, checkpoint)
    return [this.logged, *third.sums.tolist()]


def points_of_two_ranks(rank: int) -> list[Any]:
    """Take four steps, of which every second is a point; return what callbacks and the logger are told."""
    this: Any = Rank(rank)
    this.log_every_n_steps, this.is_global_zero, this.loggers = 2, rank == 0, [Memory()]
    callback, told = TrainingLoss(), []
    for step in range(1, 5):
        this.global_step, this.logged = step, None
        outputs = {"loss": torch.tensor(step + 10.0 * rank)}
        callback.on_train_batch_end(this, this, outputs, {"index": torch.zeros(2)}, step - 1)
        told.append(this.logged)
    return [told, [(step, values["train/loss"]) for step, values in this.loggers[0].points]]


def both(rank: int) -> list[list[Any]]:
    return [losses_of_two_ranks(rank), points_of_two_ranks(rank)]


def test_two_ranks_go_on_with_sums_of_their_own_and_the_curve_has_the_loss_of_the_step(tmp_path: Path) -> None:
    (means, points), (others, no_points) = run_in_two_processes(both, tmp_path)
    # rank 0: losses 1, 2, 4 of two images each; rank 1: 11, 12, 14 of three each
    mean = (2 * (1 + 2 + 4) + 3 * (11 + 12 + 14)) / 15
    assert means == others == [pytest.approx(mean), 2 * 3 + 3 * 23, 10.0]
    assert points == [[None, 7.0, None, 9.0], [(1, 7.0), (3, 9.0)]]
    assert no_points == [[None, 7.0, None, 9.0], []]
