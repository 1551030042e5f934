"""Do the loaders give augmented crops to train on and whole images to score, in batches that divide over devices?"""

import functools
import itertools
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segtrain.data import datamodule
from segtrain.data import loader as loading
from segtrain.data.augmentation import Augmentation
from segtrain.data.cache import Cache
from segtrain.data.caching import cache_in_memory
from segtrain.data.datamodule import SegmentationData
from segtrain.data.loader import choose_workers
from segtrain.data.mixing import Mix
from segtrain.data.progressive import Progressive
from segtrain.data.samples import Samples
from segtrain.data.sampling import ByWeight, Sampling
from segtrain.errors import DataError, UserError

COUNTS = {"train": 10, "val": 3, "test": 5, "nothing": 0}


class Squares:
    """As many images as COUNTS says; the image's value is its index."""

    def __init__(self, *, split: str, side: int = 12) -> None:
        self.split = split
        self.side = side

    def __len__(self) -> int:
        return COUNTS[self.split]

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return np.full((self.side, self.side, 3), index, np.uint8), np.zeros((self.side, self.side), np.uint8)


def data(*, side: int = 12, **options: Any) -> SegmentationData:
    given: dict[str, Any] = {
        "augmentation": Augmentation([A.RandomCrop(8, 8)], ignore_index=255),
        "num_classes": 2,
        "ignore_index": 255,
        "batch_size": 4,
        "eval_batch_size": 2,
        "num_workers": 0,
        "seed": 0,
    }
    return SegmentationData(functools.partial(Squares, side=side), **{**given, **options})


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


def test_crops_grow_with_the_epochs_and_what_is_scored_does_not() -> None:
    whole = Augmentation([], ignore_index=255)
    own = data(progressive=Progressive([0.5, 1.0], epochs=4), augmentation=whole, test_split="train", side=64)
    batches = list(itertools.islice(own.training_batches(), 8))  # two an epoch
    assert [batch["mask"].shape[1:] for batch in batches] == [(32, 32)] * 4 + [(64, 64)] * 4
    assert [batch["image"].shape[2:] for batch in batches] == [(32, 32)] * 4 + [(64, 64)] * 4
    for loader in (own.test_dataloader(), own.val_dataloader()):
        assert {tuple(batch["image"].shape[2:]) for batch in loader} == {(64, 64)}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_batches_of_an_epoch_can_be_had_again_also_in_a_resumed_run(workers: int) -> None:
    loader = data().train_dataloader()
    loader.batch_sampler.sampler.set_epoch(3)  # type: ignore[union-attr]
    full = list(loader)
    for count in (1, 2, 5):
        again = list(data(start=(3, 1), num_workers=workers).first_batches(3, count))
        assert len(again) == min(count, 2)
        for ours, theirs in zip(again, full, strict=False):
            assert torch.equal(ours["index"], theirs["index"])
            assert torch.equal(ours["image"], theirs["image"])


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
    monkeypatch.setattr(loading, "num_cores", lambda: cores)
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(loading.torch.cuda, "device_count", lambda: devices)
    assert choose_workers() == expected


def test_a_loader_adds_up_how_long_it_was_waited_for_and_begins_anew_with_every_iteration() -> None:
    class Slow(Squares):
        def __getitem__(self, index: int) -> Any:
            time.sleep(0.01)
            return super().__getitem__(index)

    module = data()
    module.source = Slow
    loader = module.train_dataloader()
    for _ in range(2):
        for number, _batch in enumerate(loader):
            assert 0.04 * (number + 1) <= loader.waited < 0.04 * (number + 1) + 0.06
            time.sleep(0.1)  # of the one who takes: not waited for


class Count(Sampling):
    """Weights, counted how often they are asked for."""

    asked = 0

    def repeats(self, samples: Samples) -> NDArray[np.float64]:
        self.asked += 1
        return np.array([0.0, 2.5] * 5)


def test_the_sampling_decides_what_comes_in_an_epoch_and_how_long_it_is() -> None:
    sampling = Count()
    module = data(sampling=sampling)
    assert module.batches_per_epoch(1) == module.batches_per_epoch(2) == 3  # 12.5 images, as 12, by 4
    counts = Counter(index for batch in module.train_dataloader() for index in batch["index"].tolist())
    assert counts.keys() == {1, 3, 5, 7, 9}
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert sampling.asked == 1


def test_a_batch_is_refused_by_the_images_that_the_sampling_leaves() -> None:
    with pytest.raises(UserError, match=r"loader\.batch_size: 13 is more than the 12 training images"):
        data(sampling=Count(), batch_size=13).batches_per_epoch(1)
    with pytest.raises(UserError, match=r"sampling\.weights: 2 weights for 10 training images"):
        data(sampling=ByWeight([1, 2])).train_dataloader()


class Swap(Mix):
    """Each image becomes its partner."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def paste(self, image: Any, mask: Any, other_image: Any, other_mask: Any, *, rng: Any) -> None:
        image[:] = other_image


def test_training_batches_are_mixed_and_evaluation_is_not() -> None:
    module = data(mix=Swap())
    (first, *_) = module.train_dataloader()
    assert first["image"][:, 0, 0, 0].tolist() == first["index"].roll(2).tolist()
    for loader in (module.val_dataloader(), module.test_dataloader()):
        assert all(batch["image"][:, 0, 0, 0].tolist() == batch["index"].tolist() for batch in loader)


@pytest.mark.parametrize(("batch_size", "world_size"), [(5, 1), (6, 2), (2, 2), (10, 2)])
def test_images_are_mixed_in_pairs_so_a_devices_batch_must_be_even(batch_size: int, world_size: int) -> None:
    own = batch_size // world_size
    with pytest.raises(UserError, match=rf"loader\.batch_size: augmentation\.mix pairs the {own} images that a device"):
        data(mix=Swap(), batch_size=batch_size).batches_per_epoch(world_size)
    assert data(mix=Swap(), batch_size=4).batches_per_epoch(2) == 2
    assert data(batch_size=batch_size).batches_per_epoch(world_size) > 0


def test_train_and_val_are_cached_once_and_test_is_not() -> None:
    filled = []

    def cache(samples: Samples, split: str) -> Cache:
        filled.append(split)
        return cache_in_memory(samples, what=split)

    module = data(cache=cache)
    for _ in range(2):
        loaders = [module.train_dataloader(), module.val_dataloader(), module.test_dataloader()]
        batches = [batch for loader in loaders for batch in loader]
        assert all((batch["image"] == batch["index"].view(-1, 1, 1, 1)).all() for batch in batches)
    assert filled == ["train", "val"]
    assert loaders[2].dataset.cache is None


def test_a_system_that_cannot_fork_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datamodule.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UserError, match=r"^loader\.cache: this system cannot share memory .*; give none"):
        data(cache=lambda samples, split: cache_in_memory(samples, what=split)).train_dataloader()
    assert len(list(data().train_dataloader())) == 2


def test_a_split_with_fewer_images_than_devices_is_refused_with_the_remedy() -> None:
    module = data(batch_size=4)
    module.trainer = SimpleNamespace(global_rank=0, world_size=4)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"trainer\.devices: 4 processes, .* has 3 images; .* give 3 devices"):
        module.val_dataloader()
    assert len(module.test_dataloader()) == 1


def test_class_weights_are_those_of_the_training_masks_by_hand() -> None:
    class Halves(Squares):
        def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            mask = np.zeros((12, 12), np.uint8)
            mask[:3] = 255
            mask[3:6] = index % 2  # class 1 is 36 of 108 labelled pixels in every other image
            return np.zeros((12, 12, 3), np.uint8), mask

    module = SegmentationData(
        Halves,
        augmentation=Augmentation([], ignore_index=255),
        num_classes=2,
        ignore_index=255,
        batch_size=4,
        eval_batch_size=2,
        num_workers=0,
        seed=0,
    )
    zero, one = (5 * 108 + 5 * 72) / (10 * 108), 36 / 108  # share in the images that have the class
    expected = np.array([1 / zero, 1 / one])
    np.testing.assert_allclose(module.class_weights("median_frequency"), expected / expected.mean())
    assert module.class_weights("effective_number")[0] < 1 < module.class_weights("effective_number")[1]


def test_a_score_is_of_all_images_also_where_training_passes_bad_ones_over() -> None:
    class Bad(Squares):
        def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            if index == 2:
                raise DataError("image 2 is bad")
            return super().__getitem__(index)

    module = data(skip_bad=True, test_split="train")
    module.source = Bad
    assert {index for batch in module.train_dataloader() for index in batch["index"].tolist()}.isdisjoint({2})
    with pytest.raises(DataError, match="image 2 is bad"):
        list(module.test_dataloader())
