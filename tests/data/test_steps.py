"""Are an optimizer step's images the same however they are divided, and does each batch know the labels of all?"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segtrain.data.augmentation import Augmentation
from segtrain.data.datamodule import SegmentationData
from segtrain.data.sampler import EpochSampler
from segtrain.data.samples import Key
from segtrain.data.steps import count_labels, images_at_a_time
from segtrain.errors import UserError

DIVISIONS = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1)]  # devices and parts


class Noise:
    """37 images of 6x5 whose masks have the classes 0 to 2 and void, each in a share of its own."""

    def __init__(self, *, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return 37 if self.split == "train" else 3

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = np.random.default_rng(index)
        mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (6, 5), p=rng.dirichlet([0.3] * 4))
        return np.full((6, 5, 3), index, np.uint8), mask


def data(devices: int = 1, parts: int = 1, *, rank: int = 0, **options: Any) -> SegmentationData:
    given: dict[str, Any] = {
        "augmentation": Augmentation([], ignore_index=255),
        "num_classes": 4,
        "ignore_index": 255,
        "batch_size": 8,
        "accumulation": parts,
        "eval_batch_size": 2,
        "num_workers": 0,
        "seed": 0,
    }
    module = SegmentationData(Noise, **{**given, **options})
    module.trainer = SimpleNamespace(global_rank=rank, world_size=devices)  # type: ignore[assignment]
    return module


def keys_of_steps(devices: int, parts: int, *, epoch: int, repeats: NDArray[np.float64] | None) -> list[set[Key]]:
    """Return what each optimizer step of an epoch is of, over all devices."""
    steps: list[set[Key]] = []
    for rank in range(devices):
        size = 8 // devices // parts
        sampler = EpochSampler(
            37, batch_size=size, accumulation=parts, seed=3, repeats=repeats, rank=rank, world_size=devices
        )
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler) == 4 * size * parts
        steps = steps or [set() for _ in range(4)]
        for step, found in enumerate(steps):
            found.update(keys[step * size * parts : (step + 1) * size * parts])
    return steps


@pytest.mark.parametrize("repeats", [None, np.linspace(0, 2, 37)], ids=["once each", "repeated"])
@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize(("devices", "parts"), DIVISIONS)
def test_a_step_is_of_the_same_images_whatever_the_devices_and_the_parts(
    devices: int, parts: int, epoch: int, repeats: NDArray[np.float64] | None
) -> None:
    found = keys_of_steps(devices, parts, epoch=epoch, repeats=repeats)
    assert found == keys_of_steps(1, 1, epoch=epoch, repeats=repeats)
    assert [len(step) for step in found] == [8] * 4


@pytest.mark.parametrize(("devices", "parts"), DIVISIONS)
def test_every_batch_of_a_step_has_the_count_of_the_labels_in_all_of_its_devices_batches(
    devices: int, parts: int
) -> None:
    for rank in range(devices):
        module = data(devices, parts, rank=rank)
        batches = list(module.train_dataloader())
        assert len(batches) == module.batches_per_epoch(devices) == 4 * parts
        for first in range(0, len(batches), parts):
            step = batches[first : first + parts]
            if parts == 1:
                assert step[0].keys() == {"image", "mask", "index"}
                continue
            masks = np.concatenate([batch["mask"].numpy().ravel() for batch in step])
            expected = [(masks == label).sum() for label in range(4)]
            assert all(batch["step_labels"].tolist() == expected for batch in step)
            assert all(batch["step_labels"].dtype == torch.int64 and "labels" not in batch for batch in step)


def test_workers_and_a_resumed_start_give_the_same_counts() -> None:
    expected = list(data(1, 2).train_dataloader())
    for options, skipped in (({"num_workers": 1}, 0), ({"start": (0, 4)}, 4)):
        found = list(data(1, 2, **options).train_dataloader())
        assert len(found) == 8 - skipped
        for ours, theirs in zip(found, expected[skipped:], strict=True):
            assert ours["index"].tolist() == theirs["index"].tolist()
            assert torch.equal(ours["step_labels"], theirs["step_labels"])


def test_images_that_are_scored_are_not_counted() -> None:
    for loader in (data(1, 2).val_dataloader(), data(1, 2).test_dataloader()):
        assert all(batch.keys() == {"image", "mask", "index"} for batch in loader)


@pytest.mark.parametrize(("devices", "parts"), DIVISIONS)
def test_the_keys_of_a_batch_are_those_of_all_batches_of_its_step(devices: int, parts: int) -> None:
    ranks = [list(data(devices, parts, rank=rank).train_dataloader()) for rank in range(devices)]
    for rank in range(devices):  # which all say the same
        module = data(devices, parts, rank=rank)
        for number in range(len(ranks[0])):
            first = number // parts * parts
            found = [[key.sample for key in keys] for keys in module.keys_of(0, number)]
            step = [batch for batches in ranks for batch in batches[first : first + parts]]
            assert found == [batch["index"].tolist() for batch in step]


@pytest.mark.parametrize("ignore_index", [255, -1, 3])
def test_labels_are_counted_as_by_hand(ignore_index: int) -> None:
    masks = np.random.default_rng(0).integers(0, 5, (2, 7, 9), np.int32)
    masks[masks == 4] = ignore_index
    counts = count_labels(masks, num_classes=4, ignore_index=ignore_index)
    assert counts.tolist() == [int(((masks == c) & (masks != ignore_index)).sum()) for c in range(4)]
    void = np.full((1, 3, 3), ignore_index, np.int32)
    assert count_labels(void, num_classes=4, ignore_index=ignore_index).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("images", "devices", "parts", "sentence"),
    [
        (6, 4, 1, "6 images cannot be divided over 4 devices; give a multiple of 4"),
        (6, 1, 4, r"6 images .* into the parts of trainer\.accumulate_grad_batches=4; give a multiple of 4"),
        (4, 2, 4, r"over 2 devices and into the parts of trainer\.accumulate_grad_batches=4; give a multiple of 8"),
    ],
)
def test_images_that_cannot_be_divided_are_refused(images: int, devices: int, parts: int, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^loader\.batch_size: .*{sentence}"):
        images_at_a_time(images, devices=devices, accumulation=parts)
    with pytest.raises(UserError, match=r"^loader\.batch_size: "):
        data(devices, parts, batch_size=images).train_dataloader()


def test_the_batches_of_a_step_are_loaded_before_the_first_of_them_is_given() -> None:
    read = []

    class Watched(Noise):
        def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            read.append(index)
            return super().__getitem__(index)

    module = data(1, 4)
    module.source = Watched
    batches = iter(module.train_dataloader())
    assert [len(read) for batch in (next(batches) for _ in range(5)) if batch] == [8, 8, 8, 8, 16]
