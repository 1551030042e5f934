"""Are cached samples the bytes of the files, whole or not at all, and written again when something changed?"""

import functools
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Compose
from numpy.typing import NDArray
from PIL import Image

from segtrain.build import build_data
from segtrain.config.check import check_keys
from segtrain.config.schema import TrainConfig
from segtrain.data import caching
from segtrain.data.cache import Cache
from segtrain.data.caching import cache_in_memory, cache_on_disk, choose_cache
from segtrain.data.images import ImageReader
from segtrain.data.labels import LabelMap
from segtrain.data.pairs import PairedFiles, match_by_name
from segtrain.data.samples import Samples
from segtrain.data.source import Source
from segtrain.errors import DataError

COUNT = 20
SIZES = ((30, 41), (7, 5), (64, 64))
Fill = Callable[[Samples], Cache]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 8-bit and 16-bit images of several sizes, and masks of labels 0 to 2."""
    for name in ("images", "deep", "masks"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        size = SIZES[number % len(SIZES)]
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / "images" / f"{number:02}.png")
        Image.fromarray(rng.integers(0, 2**16, size, np.uint16)).save(tmp_path / "deep" / f"{number:02}.png")
        Image.fromarray(rng.integers(0, 3, size, np.uint8)).save(tmp_path / "masks" / f"{number:02}.png")
    return tmp_path


def samples(
    source: Source, *, ignore_index: int = 255, label_map: dict[int, int | None] | None = None, num_classes: int = 3
) -> Samples:
    return Samples(
        source,
        augmentation=None,
        seed=0,
        num_classes=num_classes,
        ignore_index=ignore_index,
        labels=LabelMap(label_map, ignore_index=ignore_index),
    )


def files(folder: Path, *, images: str = "images", kind: type[PairedFiles] = PairedFiles) -> PairedFiles:
    image = ImageReader(channels=1 if images == "deep" else 3)
    return kind(*match_by_name([folder / images], [folder / "masks"]), image=image)


def on_disk(data: Samples, folder: Path, **settings: Any) -> Cache:
    return cache_on_disk(data, what="tiny-train", folder=folder / "cache", settings=settings)


def folders(folder: Path) -> list[str]:
    """Return the names of the caches on the disk, and of what an unfinished one leaves."""
    return sorted(path.name for path in (folder / "cache").iterdir() if path.name != ".lock")


@pytest.fixture(params=["ram", "disk"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Fill:
    if request.param == "ram":
        return functools.partial(cache_in_memory, what="train")
    return functools.partial(on_disk, folder=tmp_path)


def assert_same(cache: Cache, data: Samples) -> None:
    assert len(cache) == len(data)
    for index in range(len(data)):
        for found, expected in zip(cache[index], data.read(index), strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()
        assert cache.mask(index).tobytes() == cache[index][1].tobytes()


@pytest.mark.parametrize(
    ("images", "ignore_index", "num_classes", "dtypes"),
    [
        ("images", 255, 3, (np.uint8, np.uint8)),
        ("deep", 255, 3, (np.float32, np.uint8)),
        ("images", -1, 3, (np.uint8, np.int32)),
        ("images", 999, 300, (np.uint8, np.int32)),
    ],
)
def test_cached_samples_are_the_bytes_of_the_files(
    images: str, ignore_index: int, num_classes: int, dtypes: tuple[Any, Any], fill: Fill, folder: Path
) -> None:
    data = samples(files(folder, images=images), ignore_index=ignore_index, num_classes=num_classes)
    for _ in range(2):  # the second time, a disk's file is there
        cache = fill(data)
        assert_same(cache, data)
        assert tuple(array.dtype for array in cache[0]) == dtypes


def test_labels_are_mapped_before_they_are_cached(fill: Fill, folder: Path) -> None:
    data = samples(files(folder), label_map={2: 0, 0: None})
    raw = files(folder).mask(4)
    np.testing.assert_array_equal(fill(data).mask(4), np.where(raw == 2, 0, np.where(raw == 0, 255, raw)))


def test_nobody_can_write_into_a_cache(fill: Fill, folder: Path) -> None:
    for array in fill(samples(files(folder)))[3]:
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


@pytest.mark.parametrize("block", [1, 4096, 20_000])
def test_samples_may_need_several_blocks_of_memory_and_be_larger_than_one(
    block: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "BLOCK", block)
    data = samples(files(folder))
    cache = cache_in_memory(data, what="train")
    assert len(cache.blocks) > 3
    assert_same(cache, data)


def test_more_than_the_free_memory_is_refused_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples(files(folder))
    needed = sum(array.nbytes for index in range(16) for array in data.read(index)) * COUNT // 16
    monkeypatch.setattr(caching, "available_memory", lambda: int(needed / 0.9) - 2)
    with pytest.raises(DataError, match=r"^loader\.cache: the train images need about .* more and the memory has"):
        cache_in_memory(data, what="train")
    monkeypatch.setattr(caching, "available_memory", lambda: int(needed / 0.9) + 2)
    assert len(cache_in_memory(data, what="train")) == COUNT
    monkeypatch.setattr(caching, "available_memory", lambda: None)  # not known: tried
    assert len(cache_in_memory(data, what="train")) == COUNT


def test_more_than_the_disk_has_left_is_refused_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**10))
    with pytest.raises(DataError, match=r"loader\.cache: the tiny-train .* the disk of .*/cache has 0\.0 GiB left"):
        on_disk(samples(files(folder)), folder)
    assert folders(folder) == []


class Counted(PairedFiles):
    """Files that write down that they were read."""

    def __getitem__(self, index: int) -> Any:
        with (self.images[0][0].parents[1] / "read").open("a") as file:
            file.write(f"{index}\n")
        time.sleep(0.003)
        return super().__getitem__(index)


def reads(folder: Path) -> list[int]:
    return sorted(int(line) for line in (folder / "read").read_text().splitlines())


def test_a_later_run_maps_the_file_and_reads_no_other(folder: Path) -> None:
    for _ in range(3):
        on_disk(samples(files(folder, kind=Counted)), folder, label_map=None)
    assert reads(folder) == list(range(COUNT))
    assert len(folders(folder)) == 1
    (name,) = folders(folder)
    assert name.startswith("tiny-train-")


def test_what_changes_a_sample_makes_another_cache(folder: Path) -> None:
    def fill(**options: Any) -> Cache:
        return on_disk(samples(files(folder), **options), folder, **options)

    path = folder / "masks" / "07.png"
    fill(ignore_index=255)
    fill(ignore_index=254)
    fill(ignore_index=255, label_map={2: 1})
    assert len(folders(folder)) == 3
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    fill(ignore_index=255)
    assert len(folders(folder)) == 4
    Image.fromarray(np.full(SIZES[7 % 3], 2, np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as old as it was, and smaller
    assert (fill(ignore_index=255).mask(7) == 2).all()
    assert len(folders(folder)) == 5
    path.unlink()
    (folder / "images" / "07.png").unlink()
    assert len(fill(ignore_index=255)) == COUNT - 1
    assert len(folders(folder)) == 6


def test_a_bad_file_is_named_and_leaves_no_cache(fill: Fill, folder: Path) -> None:
    (folder / "images" / "17.png").write_bytes((folder / "images" / "17.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"images/17\.png: "):
        fill(samples(files(folder)))
    if (folder / "cache").is_dir():
        assert folders(folder) == []


class Dies(PairedFiles):
    """Files whose reader is killed at the twelfth."""

    def __getitem__(self, index: int) -> Any:
        if index == 12:
            os._exit(9)
        return super().__getitem__(index)


def run_processes(function: Callable[[], Any], count: int) -> list[int | None]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=function) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_what_a_killed_run_wrote_is_never_used(folder: Path) -> None:
    killed = run_processes(lambda: on_disk(samples(files(folder, kind=Dies)), folder), 1)
    assert killed == [9]
    (left,) = folders(folder)
    assert left.endswith(".part")
    data = samples(files(folder))
    assert_same(on_disk(data, folder), data)
    assert folders(folder) == [left.removeprefix(".").removesuffix(".part")]


def test_two_processes_that_fill_a_cache_at_once_write_it_once(folder: Path) -> None:
    data = samples(files(folder, kind=Counted))
    assert run_processes(lambda: assert_same(on_disk(data, folder), samples(files(folder))), 2) == [0, 0]
    assert reads(folder) == list(range(COUNT))
    assert len(folders(folder)) == 1


class Own:
    """A user's own source, that does not say its files."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return np.full((4, 6, 3), index, np.uint8), np.full((4, 6), index % 3, np.uint8)


def test_a_source_that_does_not_say_its_files_is_cached_in_memory_and_refused_for_the_disk(folder: Path) -> None:
    data = samples(Own())
    assert_same(cache_in_memory(data, what="train"), data)
    with pytest.raises(DataError, match=r"^loader\.cache: disk keeps .*a method files\(index\), or give loader\.cache"):
        on_disk(data, folder)
    assert not (folder / "cache").exists()


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(folder: Path) -> None:
    (folder / "cache").write_text("a file")
    with pytest.raises(
        DataError, match=r"/cache/tiny-train-\w+: the cache cannot be written \(.*give paths\.cache=FOLDER"
    ):
        on_disk(samples(files(folder)), folder)


def test_the_choice_is_none_memory_or_disk_by_name_and_split(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    data = samples(files(folder))
    assert choose_cache("none", folder="~/cache", dataset={}) is None
    for kind in ("ram", "disk"):
        choice = choose_cache(kind, folder="~/cache", dataset={"name": "cells", "ignore_index": 255})
        assert choice is not None
        assert_same(choice(data, "val"), data)
    assert [name.rpartition("-")[0] for name in folders(folder)] == ["cells-val"]


AUGMENTATIONS = sorted(path.stem for path in (ROOT / "configs" / "augmentation").glob("*.yaml"))


@pytest.mark.parametrize("images", ["images", "deep"])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_every_augmentation_works_on_the_read_only_arrays_of_a_cache(
    augmentation: str, images: str, compose_config: Compose, folder: Path
) -> None:
    composed = compose_config(
        *("dataset=folder", f"dataset.root={folder}", f"dataset.images={images}", "dataset.shares=[1,0,0]"),
        *("dataset.num_classes=3", "dataset.class_names=[a,b,c]", "dataset.crop_size=32", "dataset.rotate90=0.5"),
        *(f"augmentation={augmentation}", "loader.cache=ram"),
    )
    cfg = check_keys(composed, TrainConfig)
    cached, plain = build_data(cfg)._cached("train"), build_data(cfg).samples("train")
    assert cached.cache is not None
    for key in [(epoch, index) for epoch in range(6) for index in range(COUNT)]:
        found, expected = cached[key], plain[key]
        assert found["image"].tobytes() == expected["image"].tobytes()
        assert found["mask"].tobytes() == expected["mask"].tobytes()


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "masks" / "03.png").rename(folder / "gone.png")
    source = PairedFiles(
        [(folder / "images" / f"{number:02}.png",) for number in range(COUNT)],
        [(folder / "masks" / f"{number:02}.png",) for number in range(COUNT)],
    )
    with pytest.raises(DataError, match=r"masks/03\.png: cannot be read \(No such file"):
        on_disk(samples(source), folder)


def test_a_data_set_of_any_name_has_a_folder_and_a_crop_makes_no_other(folder: Path) -> None:
    data = samples(files(folder))
    for crop in (64, 128):
        dataset = {"name": "my/own: set", "crop_size": crop, "source": {"_target_": "x"}, "ignore_index": 255}
        cache = choose_cache("disk", folder=str(folder / "cache"), dataset=dataset)
        assert cache is not None
        assert len(cache(data, "train")) == COUNT
    (name,) = [path.name for path in (folder / "cache").iterdir() if path.is_dir()]
    assert name.startswith("my-own--set-train-")


@pytest.mark.parametrize("harm", ["index cut", "index gone", "data cut", "data empty"])
def test_a_damaged_cache_is_named_with_what_to_do(folder: Path, harm: str) -> None:
    data = samples(files(folder))
    on_disk(data, folder)
    (home,) = [path for path in (folder / "cache").iterdir() if path.is_dir()]
    name, what = harm.split()
    path = home / {"index": "index.json", "data": "data.bin"}[name]
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if what == "empty" else path.stat().st_size - 70])
    with pytest.raises(DataError, match=rf"{home.name}: the cache is damaged .*; remove this folder"):
        on_disk(data, folder)


def test_a_finished_cache_needs_no_lock(folder: Path) -> None:
    data = samples(files(folder))
    on_disk(data, folder)
    (folder / "cache" / ".lock").unlink()
    (folder / "cache" / ".lock").mkdir()  # cannot be opened, as in a folder that is read-only
    assert_same(on_disk(data, folder), data)


def test_large_images_behind_small_ones_are_refused_before_the_memory_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "BLOCK", 2**12)
    free = iter([10**9, 10**9, 10**9, 10])
    monkeypatch.setattr(caching, "available_memory", lambda: next(free))
    with pytest.raises(DataError, match=r"loader\.cache: the train images need about"):
        cache_in_memory(samples(files(folder)), what="train")
