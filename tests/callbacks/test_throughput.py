"""Is the share of the time that training waits for its loader near the truth, and are images counted by the second?"""

import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from tiny import TinySamples, tiny_module, trainer
from torch.utils.data import BatchSampler, DataLoader

from segtrain.callbacks.metrics_csv import MetricsCsv, read_rows
from segtrain.callbacks.throughput import Throughput
from segtrain.callbacks.training_loss import TrainingLoss
from segtrain.data.loader import Loader
from segtrain.data.sampler import EpochSampler
from segtrain.data.samples import Key, collate

NAMES = ["dark", "middle", "bright"]
COUNT, BATCH = 8, 2


class Slow(TinySamples):
    """Samples that take their time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(COUNT)
        self.seconds = seconds

    def __getitem__(self, key: Key) -> dict[str, Any]:
        time.sleep(self.seconds)
        return super().__getitem__(key)


class SlowSteps(pl.Callback):
    """Steps that take their time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *arguments: Any) -> None:
        time.sleep(self.seconds)


def loader(seconds: float, *, kind: Any = Loader) -> Any:
    sampler = EpochSampler(COUNT, batch_size=BATCH, seed=0)
    return kind(Slow(seconds), batch_sampler=BatchSampler(sampler, BATCH, drop_last=True), collate_fn=collate)


def fit(folder: Path, train: Any, *, step: float = 0.0, val: Any = None, epochs: int = 2) -> list[dict[str, str]]:
    callbacks = [TrainingLoss(), SlowSteps(step), Throughput(), MetricsCsv(folder / "metrics.csv", NAMES)]
    trainer(folder, *callbacks, max_epochs=epochs).fit(tiny_module(), train, val)
    return read_rows(folder / "metrics.csv")


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_a_slow_loader_is_waited_for_and_a_fast_one_is_not(tmp_path: Path) -> None:
    slow = fit(tmp_path, loader(0.02))  # 4 x 40 ms an epoch, and steps of some milliseconds
    even = fit(tmp_path, loader(0.02), step=0.04)
    fast = fit(tmp_path, loader(0.0), step=0.04)
    fractions = [[float(row["perf/data_wait_fraction"]) for row in rows] for rows in (slow, even, fast)]
    assert [len(rows) for rows in fractions] == [2, 2, 2]  # every epoch has its own
    assert fractions[0][1] > 0.5  # the first epoch warms up
    assert 0.2 < fractions[1][1] < 0.7
    assert max(fractions[2]) < 0.2
    assert max(map(max, fractions)) <= 1


def test_validation_is_left_out_of_speed_and_share(tmp_path: Path) -> None:
    (row,) = fit(tmp_path, loader(0.02), val=loader(0.1), epochs=1)  # 0.16 s of training, 0.8 s of validation
    assert COUNT / 0.8 < float(row["perf/images_per_second"]) < COUNT / 0.16
    assert float(row["perf/data_wait_fraction"]) > 0.2


def test_the_waiting_is_that_of_the_last_iteration() -> None:
    batches = loader(0.01)
    waited = []
    for _ in range(2):
        for _batch in batches:
            time.sleep(0.03)
        waited.append(batches.waited)
    assert all(0.08 <= seconds < 0.15 for seconds in waited), waited  # 8 x 10 ms, and none of 4 x 30 ms


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_a_loader_of_another_kind_has_no_share(tmp_path: Path) -> None:
    (row,) = fit(tmp_path, loader(0.0, kind=DataLoader), epochs=1)
    assert float(row["perf/images_per_second"]) > 0
    assert row["perf/data_wait_fraction"] == ""
