"""Decode a split once: into memory, or into a file that later runs map again."""

import fcntl
import hashlib
import json
import logging
import mmap
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segtrain import __version__
from segtrain.data.cache import Cache, Place
from segtrain.data.samples import Samples
from segtrain.data.source import files_of
from segtrain.data.threads import each_sample
from segtrain.errors import DataError
from segtrain.hardware import available_memory

log = logging.getLogger("segtrain")

BLOCK = 2**28  # bytes of memory that are asked for at a time; the system gives a page when it is written
DECODING = ("source", "label_map", "reduce_zero_label", "ignore_index", "num_classes")  # keys that change arrays
IN_MEMORY = ("memory", "disk or none")  # where it is, and what to give in place of it
FIRST = 16  # samples by whose size the whole is judged


def choose_cache(kind: str, *, folder: str, dataset: dict[str, Any]) -> Callable[[Samples, str], Cache] | None:
    """Return what caches a split's samples, called with them and the split's name; None for "none".

    Args:
        kind: "none", "ram" or "disk".
        folder: where files of the kind "disk" are kept.
        dataset: the data set's configuration.
    """
    if kind == "none":
        return None
    if kind == "ram":
        return lambda samples, split: cache_in_memory(samples, what=split)
    name = re.sub(r"[^\w.-]", "-", str(dataset.get("name") or "data"))
    settings = {key: dataset.get(key) for key in DECODING}
    return lambda samples, split: cache_on_disk(
        samples, what=f"{name}-{split}", folder=Path(folder).expanduser(), settings=settings
    )


def cache_in_memory(samples: Samples, *, what: str) -> Cache:
    """Read every sample once and keep it in memory that forked processes share.

    Args:
        samples: as they are, not augmented.
        what: they are, for messages: such as "train".

    Raises:
        DataError: if a file is bad, or they need more memory than is free.
    """
    started = time.monotonic()
    blocks: list[mmap.mmap] = []
    places: list[tuple[Place, Place]] = []
    used = total = 0
    for number, sample in enumerate(each_sample(samples.source, samples.read), start=1):
        here = []
        for array in sample:
            data = np.ascontiguousarray(array)
            if not blocks or used + data.nbytes > len(blocks[-1]):
                if blocks:
                    _refuse_too_much(total * (len(samples) - number) // number, what, available_memory(), *IN_MEMORY)
                blocks.append(mmap.mmap(-1, max(BLOCK, data.nbytes)))
                used = 0
            np.frombuffer(blocks[-1], data.dtype, data.size, used)[:] = data.reshape(-1)
            here.append(Place(len(blocks) - 1, used, data.shape, data.dtype.str))
            used += _aligned(data.nbytes)
            total += data.nbytes
        places.append((here[0], here[1]))
        if number == min(FIRST, len(samples)):
            _refuse_too_much(total * len(samples) // number, what, available_memory(), *IN_MEMORY)
    log.info(f"{what}: {len(places)} images cached, {total / 2**20:.0f} MiB ({time.monotonic() - started:.1f} s)")
    return Cache(blocks, places)


def cache_on_disk(samples: Samples, *, what: str, folder: Path, settings: Any) -> Cache:
    """Map the file of an earlier run with the same files and settings, or write it.

    Args:
        samples: as they are, not augmented.
        what: they are: such as "camvid-train"; the file's folder begins with it.
        folder: where such folders are kept.
        settings: all that decoding depends on beside the files; compared by its text.

    Raises:
        DataError: if a file is bad, the source does not say its files, or the disk has not the room.
    """
    home = folder / f"{what}-{_fingerprint(samples, settings)}"
    try:
        if not home.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / ".lock"):  # by another process of this run, or another run
                if not home.is_dir():
                    _write(samples, home, what)
    except OSError as error:
        raise DataError(f"{home}: the cache cannot be written ({error.strerror}); give paths.cache=FOLDER") from error
    try:
        index = json.loads((home / "index.json").read_text(encoding="utf-8"))
        block = np.memmap(home / "data.bin", np.uint8, "r")
        places = [(_place(image), _place(mask)) for image, mask in index["places"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{home}: the cache is damaged ({error}); remove this folder") from error
    if len(block) != index["size"]:
        raise DataError(f"{home}: the cache is damaged (data.bin has {len(block)} bytes); remove this folder")
    return Cache([block], places)


def _place(entry: list[Any]) -> Place:
    block, start, shape, dtype = entry
    return Place(block, start, tuple(shape), dtype)


def _write(samples: Samples, home: Path, what: str) -> None:
    """Fill a new folder beside its place, and move it there when it is whole."""
    started = time.monotonic()
    new = home.with_name(f".{home.name}.part")
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    new.mkdir()
    places: list[tuple[Place, Place]] = []
    try:
        with (new / "data.bin").open("wb") as file:
            for number, sample in enumerate(each_sample(samples.source, samples.read), start=1):
                here = []
                for array in sample:
                    data = np.ascontiguousarray(array)
                    here.append(Place(0, file.tell(), data.shape, data.dtype.str))
                    file.write(data.data)
                    file.write(bytes(_aligned(data.nbytes) - data.nbytes))
                places.append((here[0], here[1]))
                if number == min(FIRST, len(samples)):
                    free = shutil.disk_usage(new).free
                    _refuse_too_much(file.tell() * len(samples) // number, what, free, f"disk of {home.parent}", "none")
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        (new / "index.json").write_text(json.dumps({"size": size, "places": places}), encoding="utf-8")
        os.replace(new, home)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    log.info(f"{home}: {len(places)} images cached, {size / 2**20:.0f} MiB ({time.monotonic() - started:.1f} s)")


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def _refuse_too_much(needed: int, what: str, free: int | None, where: str, other: str) -> None:
    if free is not None and needed > 0.9 * free:
        sizes = [f"{size / 2**30:.1f} GiB" for size in (needed, free)]
        raise DataError(
            f"loader.cache: the {what} images need about {sizes[0]} more and the {where} has {sizes[1]} left; "
            f"give loader.cache={other}"
        )


def _fingerprint(samples: Samples, settings: Any) -> str:
    """Return 16 digits that change when a file or a setting does."""
    digest = hashlib.sha256(f"{__version__} {settings!r}".encode())
    for index in range(len(samples)):
        files = files_of(samples.source, index)
        if files is None:
            raise DataError(
                "loader.cache: disk keeps samples between runs, and this data set does not say its files, so a change "
                "would not be seen; give it a method files(index), or give loader.cache=ram"
            )
        for path in (path for group in files for path in group):
            try:
                status = path.stat()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            digest.update(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
