"""Is a file that two splits have named, with the splits, and nothing said of others?"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtrain.data.augmentation import Augmentation
from segtrain.data.datamodule import SegmentationData
from segtrain.data.leaks import shared_files
from segtrain.data.pairs import PairedFiles


def source(folder: Path, *names: str) -> PairedFiles:
    for name in names:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"{name}_mask.png")
    return PairedFiles([(folder / f"{n}.png",) for n in names], [(folder / f"{n}_mask.png",) for n in names])


def test_each_pair_of_splits_with_a_common_image_is_one_sentence(tmp_path: Path) -> None:
    splits = {
        "train": source(tmp_path, "a", "b", "c"),
        "val": source(tmp_path, "c", "d"),
        "test": source(tmp_path, "e"),
    }
    (sentence,) = shared_files(splits)
    assert sentence.startswith("1 images are in train and in val")
    assert str(tmp_path / "c.png") in sentence
    splits["test"] = source(tmp_path, "a", "d")
    assert [s.split(", so")[0] for s in shared_files(splits)] == [
        "1 images are in train and in val",
        "1 images are in train and in test",
        "1 images are in val and in test",
    ]


def test_splits_of_their_own_images_and_sources_without_files_are_passed_over(tmp_path: Path) -> None:
    assert shared_files({"train": source(tmp_path, "a"), "val": source(tmp_path, "b")}) == []
    assert shared_files({"train": [1, 2], "val": [1, 2]}) == []  # type: ignore[dict-item]


def test_training_warns_and_reads_the_first_the_middle_and_the_last_sample(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = source(tmp_path, *"abcdefg")
    read = []
    monkeypatch.setattr(
        PairedFiles, "image", lambda self, index: read.append(index) or self.read_image(*self.images[index])
    )
    data = SegmentationData(
        lambda *, split: opened,
        augmentation=Augmentation([], ignore_index=255),
        num_classes=2,
        ignore_index=255,
        batch_size=1,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
    )
    data.open_splits("train", "val")
    assert read == [0, 3, 6, 0, 3, 6]
    assert "7 images are in train and in val" in caplog.text
