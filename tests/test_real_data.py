"""Does the main job reach its score on real images, in its time and memory, and does CamVid train as published?"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, only_run, run_segtrain
from skimage.filters import threshold_otsu
from sklearn.metrics import confusion_matrix

from segtrain.data.camvid import CamVid
from segtrain.data.nuclei import Nuclei

pytestmark = pytest.mark.slow


def otsu_miou(split: str) -> float:
    """Return Otsu's mIoU on the built-in data: per image, grey value, the smaller side taken as nuclei."""
    matrix = np.zeros((2, 2), np.int64)
    source = Nuclei(split=split)
    for index in range(len(source)):
        image, mask = source[index]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        above = grey > threshold_otsu(grey)
        nuclei = above if above.mean() < 0.5 else ~above
        matrix += confusion_matrix(mask.ravel(), nuclei.ravel(), labels=[0, 1])
    hit = np.diag(matrix)
    return float(np.mean(hit / (matrix.sum(0) + matrix.sum(1) - hit)))


def children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield int(child)
            yield from children(int(child))


def resident(pid: int) -> int:
    """Return the proportional memory of a process in bytes: pages shared with its workers count once in all."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class MemoryWatch(threading.Thread):
    """Follow the memory of this process's children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            self.peak = max(self.peak, sum(resident(pid) for pid in set(children(os.getpid()))))
            time.sleep(0.5)


def test_the_plain_command_beats_otsu_within_its_memory(tmp_path: Path) -> None:
    watch = MemoryWatch()
    watch.start()
    threads = str(os.cpu_count())
    started = time.monotonic()
    done = run_segtrain("train", cwd=tmp_path, timeout=1800, OMP_NUM_THREADS=threads)
    seconds = time.monotonic() - started
    watch.stopped = True
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    print(f"test mIoU {metrics['test/miou']:.4f} in {seconds:.0f} s, peak memory {watch.peak / 2**30:.2f} GiB")
    assert metrics["test/miou"] > 0.84, "the mean of three seeds is at least 0.85"
    assert metrics["test/miou"] > otsu_miou("test") + 0.03
    if sys.platform == "linux":
        assert watch.peak < 3 * 2**30
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    assert (run / "predictions.png").stat().st_size > 50_000


def test_camvid_is_read_as_published(real_data: Path) -> None:
    expected = {"train": 367, "val": 101, "test": 233}
    for split, count in expected.items():
        source = CamVid(root=str(real_data / "camvid"), split=split)
        assert len(source) == count
        image, mask = source[count // 2]
        assert image.shape == (360, 480, 3)
        assert mask.shape == (360, 480)
        assert set(np.unique(mask)) <= set(range(12))


def test_camvid_small_learns_street_scenes(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "camvid"
    done = run_segtrain(
        "train", "experiment=camvid_small", f"dataset.root={root}", "trainer.max_epochs=6",
        "trainer.check_val_every_n_epoch=6", "test=false", cwd=tmp_path, timeout=1800,
        OMP_NUM_THREADS=str(os.cpu_count()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((only_run(tmp_path) / "metrics.json").read_text())
    assert metrics["val/iou/Road"] > 0.6
    assert metrics["val/iou/Sky"] > 0.6
    assert metrics["val/miou"] > 0.2  # a tenth of the recipe's epochs; one class everywhere is below 0.04


def test_the_data_of_the_tests_is_not_in_the_package() -> None:
    assert not list((ROOT / "segtrain").rglob("*annot*"))
