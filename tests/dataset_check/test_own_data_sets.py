"""Is a data set of the user's own checked too, whatever it raises or returns?"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from checking import check, kinds
from conftest import Compose

from segtrain.data.labels import LabelMap
from segtrain.dataset_check.sample import Reading
from segtrain.dataset_check.scan import scan
from segtrain.errors import UserError

OWN = """
import numpy as np
import torch

class Own:
    def __init__(self, *, split: str, faulty: bool = False) -> None:
        if faulty and split == "test":
            raise FileNotFoundError("no file for the test split")
        self.seed, self.faulty = sum(map(ord, split)), faulty and split == "train"

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int):
        rng = np.random.default_rng((self.seed, index))
        image = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
        mask = rng.integers(0, 2, (9, 8), dtype=np.int64)
        if self.faulty:
            if index == 1:
                raise KeyError("sample 1 is not there")
            if index == 2:
                return torch.from_numpy(image), mask
            if index == 3:
                return image
            if index == 4:
                return image, mask / 2
            if index == 5:
                return image.astype(np.float32) * np.nan, mask
        return image, mask
"""
CONFIG = ("++dataset.source._target_=own_data.Own", "dataset.crop_size=32")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_data", raising=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_it_raises_and_what_it_returns_are_problems_of_those_samples(
    workers: int, compose_config: Compose
) -> None:
    result = check(compose_config, None, *CONFIG, "++dataset.source.faulty=true", workers=workers)
    found = {
        problem.kind: [(item.text, item.files) for item in problem.items]
        for problem in result.problems
        if problem.severity == "error"
    }
    assert found == {
        "exception": [
            ("test: FileNotFoundError: no file for the test split", ()),
            ("KeyError: 'sample 1 is not there'", ("train sample 1",)),
            ("ValueError: too many values to unpack (expected 2)", ("train sample 3",)),
        ],
        "no_array": [
            (
                "an image is uint8 (H, W, channels), or float32 in 0 to 1, and this is a torch.Tensor",
                ("train sample 2",),
            ),
            ("a mask is (H, W) of integers, and this is float64 (9, 8)", ("train sample 4",)),
        ],
        "not_finite": [("has NaN or infinity", ("train sample 5",))],
    }
    assert result.facts["train"]["channels"]["images"] == 2
    assert np.isfinite(result.facts["train"]["channels"]["mean"]).all()


def test_without_faults_it_has_none(compose_config: Compose) -> None:
    result = check(compose_config, None, *CONFIG)
    assert set(kinds(result)) == {"small_image"}
    assert [facts["samples"] for facts in result.facts.values()] == [6, 6, 6]


class Killed:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)


def test_a_process_that_is_killed_is_a_sentence() -> None:
    reading = Reading(LabelMap(ignore_index=255), in_channels=3)
    with pytest.raises(UserError, match=r"^workers: one of the 2 processes that read files was killed"):
        scan({"train": Killed()}, reading=reading, workers=2)
