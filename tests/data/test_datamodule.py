"""Do the loaders give augmented crops to train on and whole images to score, in batches that divide over devices?"""

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segtrain.data import datamodule
from segtrain.data.augmentation import Augmentation
from segtrain.data.datamodule import SegmentationData, choose_workers
from segtrain.errors import DataError, UserError

COUNTS = {"train": 10, "val": 3, "test": 5, "nothing": 0}


class Squares:
    """As many images as COUNTS says; the image's value is its index."""

    def __init__(self, *, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return COUNTS[self.split]

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return np.full((12, 12, 3), index, np.uint8), np.zeros((12, 12), np.uint8)


def data(**options: Any) -> SegmentationData:
    given: dict[str, Any] = {
        "augmentation": Augmentation([A.RandomCrop(8, 8)], ignore_index=255),
        "num_classes": 2,
        "ignore_index": 255,
        "batch_size": 4,
        "eval_batch_size": 2,
        "num_workers": 0,
        "seed": 0,
    }
    return SegmentationData(Squares, **{**given, **options})


def test_training_batches_are_augmented_shuffled_and_whole() -> None:
    batches = list(data().train_dataloader())
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 3, 8, 8)] * 2
    indices = [index for batch in batches for index in batch["index"].tolist()]
    assert len(set(indices)) == 8
    assert indices != sorted(indices)
    assert all((batch["image"] == batch["index"].view(-1, 1, 1, 1)).all() for batch in batches)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluation_batches_are_whole_images_each_once_in_order(split: str) -> None:
    batches = list(data(test_split=split).test_dataloader())
    assert all(batch["image"].shape[1:] == (3, 12, 12) for batch in batches)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(COUNTS[split]))


def test_a_resumed_epoch_gives_the_batches_that_are_left() -> None:
    full = [batch["index"].tolist() for batch in data().train_dataloader()]
    rest = [batch["index"].tolist() for batch in data(start=(0, 1)).train_dataloader()]
    assert rest == full[1:]


@pytest.mark.parametrize(("batch_size", "world_size", "expected"), [(4, 1, 2), (4, 2, 2), (10, 5, 1), (3, 3, 3)])
def test_the_batch_is_that_of_all_devices_together(batch_size: int, world_size: int, expected: int) -> None:
    assert data(batch_size=batch_size).batches_per_epoch(world_size) == expected


def test_a_batch_that_does_not_divide_over_the_devices_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"loader\.batch_size: 4 images .* 3 devices; give a multiple of 3"):
        data().batches_per_epoch(3)


def test_a_batch_larger_than_the_training_split_is_refused() -> None:
    with pytest.raises(UserError, match=r"loader\.batch_size: 11 is more than the 10 training images"):
        data(batch_size=11).train_dataloader()


def test_an_empty_split_is_named() -> None:
    with pytest.raises(DataError, match="dataset: the nothing split is empty"):
        data(test_split="nothing", splits=("train", "nothing")).test_dataloader()
    with pytest.raises(DataError, match=r"dataset: has no nothing split \(has: train, val, test\)"):
        data(test_split="nothing").test_dataloader()


@pytest.mark.parametrize(("cores", "devices", "expected"), [(1, 0, 1), (2, 0, 1), (4, 1, 3), (64, 1, 8), (64, 8, 7)])
def test_workers_share_the_machines_cores(
    cores: int, devices: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datamodule, "num_cores", lambda: cores)
    monkeypatch.setattr(datamodule.torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(datamodule.torch.cuda, "device_count", lambda: devices)
    assert choose_workers() == expected
