"""Is a training sample a pure function of (seed, epoch, index), to the byte, however it is loaded?"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Compose
from PIL import Image

from segtrain.build import build_data
from segtrain.config.check import check_keys
from segtrain.config.schema import TrainConfig
from segtrain.data.datamodule import SegmentationData

COUNT, BATCH = 21, 4
EPOCHS = (0, 1)
WEIGHTS = f"sampling.weights={[index % 4 for index in range(COUNT)]}"  # some never, some several times an epoch
SAMPLINGS = {
    "shuffle": [],
    "balanced": ["sampling=balanced"],
    "repeat_factor": ["sampling=repeat_factor", "sampling.threshold=0.9"],
    "by_weight": ["sampling=by_weight", WEIGHTS],
}


class Found(NamedTuple):
    """A sample as a loader gives it."""

    index: int
    image: bytes
    mask: bytes


Load = Callable[..., SegmentationData]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images of two sizes, of noise; class 1 is in a third of them, class 2 in a seventh."""
    folder = tmp_path_factory.mktemp("noise")
    for name in ("train", "trainannot"):
        (folder / name).mkdir()
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        size = ((40, 52), (33, 36))[number % 2]
        mask = np.zeros(size, np.uint8)
        mask[5:20] += number % 3 == 0
        mask[:, 10:30] = np.where(number % 7 == 0, 2, mask[:, 10:30])
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / "train" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "trainannot" / f"{number:02}.png")
    return folder


@pytest.fixture
def load(root: Path, tmp_path: Path, compose_config: Compose) -> Load:
    """Return what builds the data module of `segtrain train` with some overrides."""

    @functools.cache
    def config(*overrides: str) -> dict[str, Any]:
        composed = compose_config(
            *("dataset=camvid", f"dataset.root={root}", "dataset.num_classes=3", "dataset.class_names=[a,b,c]"),
            *("dataset.palette=null", "dataset.ignore_index=255", "dataset.crop_size=32", "augmentation=standard"),
            *("dataset.vertical_flip=0.5", "dataset.rotate90=0.5", f"loader.batch_size={BATCH}"),
            *("loader.num_workers=0", f"paths.cache={tmp_path / 'cache'}", *overrides),
        )
        return check_keys(composed, TrainConfig)

    return lambda *overrides, start=(0, 0): build_data(config(*overrides), start=start)


def batches(
    data: SegmentationData, *, epochs: Sequence[int] = EPOCHS, rank: int = 0, world_size: int = 1
) -> list[list[Found]]:
    """Return the batches of some epochs, whose number is told to the sampler as Lightning does."""
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    loader = data.train_dataloader()
    found = []
    for epoch in epochs:
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for batch in loader:
            parts = zip(batch["index"].tolist(), batch["image"].numpy(), batch["mask"].numpy(), strict=True)
            found.append([Found(index, image.tobytes(), mask.tobytes()) for index, image, mask in parts])
    return found


def of_two_processes(load: Callable[[], SegmentationData]) -> list[list[Found]]:
    """Return the global batches of two ranks, whose samples were dealt to them in turn."""
    ranks = [batches(load(), rank=rank, world_size=2) for rank in range(2)]
    return [[sample for pair in zip(*parts, strict=True) for sample in pair] for parts in zip(*ranks, strict=True)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("workers", [1, 4])
def test_worker_processes_do_not_change_a_byte_whether_they_live_on_or_start_every_epoch(
    workers: int, load: Load
) -> None:
    alone = batches(load())
    parallel = f"loader.num_workers={workers}"
    data = load(parallel)
    assert data.train_dataloader().persistent_workers
    assert batches(data) == alone
    if workers > 1:
        assert [batch for epoch in EPOCHS for batch in batches(load(parallel), epochs=[epoch])] == alone


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_two_processes_and_a_resumed_run_have_the_bytes_of_one_run_with_every_sampling(
    sampling: str, load: Load
) -> None:
    overrides = SAMPLINGS[sampling]
    data = load(*overrides)
    alone, length = batches(data), data.batches_per_epoch(1)
    assert of_two_processes(lambda: load(*overrides)) == alone
    assert batches(load(*overrides, start=(0, 2))) == alone[2:]
    assert batches(load(*overrides, start=(1, 0)), epochs=[1]) == alone[length:]
    assert batches(load(*overrides, start=(1, length - 1)), epochs=[1]) == alone[-1:]


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cache_does_not_change_a_byte_filled_or_found(cache: str, load: Load, tmp_path: Path) -> None:
    overrides = [f"loader.cache={cache}", *SAMPLINGS["repeat_factor"]]
    alone = batches(load(*SAMPLINGS["repeat_factor"]))
    assert batches(load(*overrides)) == alone
    assert len(list((tmp_path / "cache").glob("camvid-train-*"))) == (cache == "disk")
    assert batches(load(*overrides, "loader.num_workers=2")) == alone
    assert of_two_processes(lambda: load(*overrides)) == alone


def test_another_seed_or_epoch_gives_other_bytes_of_the_same_image(load: Load) -> None:
    def images(data: SegmentationData, epoch: int) -> dict[int, bytes]:
        return {sample.index: sample.image for batch in batches(data, epochs=[epoch]) for sample in batch}

    first = images(load(), 0)
    for other in (images(load(), 1), images(load("seed=1"), 0)):
        assert len(first.keys() & other.keys()) > COUNT // 2
        assert all(first[index] != other[index] for index in first.keys() & other.keys())
        assert list(first) != list(other)


def test_an_image_that_comes_again_in_an_epoch_is_augmented_in_another_way(load: Load) -> None:
    epoch = [sample for batch in batches(load("sampling=by_weight", WEIGHTS), epochs=[0]) for sample in batch]
    assert len({sample.index for sample in epoch}) < len(epoch)
    assert len({sample.image for sample in epoch}) == len(epoch)


@pytest.mark.parametrize("mix", ["cutmix", "classmix"])
def test_images_are_mixed_in_the_same_pairs_by_one_process_and_by_two(load: Load, mix: str) -> None:
    def mixed(*overrides: str) -> SegmentationData:
        return load(f"augmentation/mix={mix}", *overrides)

    plain, alone = batches(load()), batches(mixed())
    assert of_two_processes(mixed) == alone
    assert batches(mixed("loader.num_workers=2")) == alone
    pairs = [pair for parts in zip(plain, alone, strict=True) for pair in zip(*parts, strict=True)]
    changed = [before.image != after.image for before, after in pairs]
    assert 0.2 < np.mean(changed) < 0.8
