"""Does the check raise no false alarm on real data, agree with NumPy there, and keep the cores busy?"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from checking import check
from conftest import Compose, run_segtrain

from segtrain.data.camvid import CamVid

pytestmark = pytest.mark.slow

HRF = ("dataset=folder", "dataset.mask=binary", "dataset.shares=[0.5,0.25,0.25]")
NUCLEI = ("dataset=folder", "dataset.masks=instances", "dataset.mask=instances")


@pytest.mark.parametrize(
    ("folder", "config", "samples"),
    [
        ("camvid", ("dataset=camvid",), 701),
        ("hrf", HRF, 9),
        ("dsb2018", NUCLEI, 664),
        (None, ("dataset=nuclei",), None),
    ],
)
def test_there_is_no_false_alarm(
    folder: str | None, config: tuple[str, ...], samples: int | None, real_data: Path, compose_config: Compose
) -> None:
    root = () if folder is None else (f"dataset.root='{real_data / folder}'",)
    result = check(compose_config, None, *config, *root, workers=os.cpu_count() or 1)
    assert [problem for problem in result.problems if problem.severity != "info"] == []
    assert len(result.facts) == 3
    assert samples in (len(result.records), None)


def test_hrf_without_shares_has_an_image_in_every_split_and_nothing_is_wrong(
    real_data: Path, compose_config: Compose
) -> None:
    result = check(compose_config, real_data / "hrf", "dataset.mask=binary")
    assert result.problems == []
    assert [facts["samples"] for facts in result.facts.values()] == [7, 1, 1]


def test_camvids_numbers_are_numpys_and_the_cores_are_busy(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "camvid"
    busy = []
    for number in range(2):
        done = run_segtrain("check", "dataset=camvid", f"dataset.root={root}", f"output=out{number}", cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        found = json.loads((tmp_path / f"out{number}" / "check.json").read_text())
        busy.append(found["summary"]["busy"])
    print("share of busy cores", busy, "load", os.getloadavg())
    if os.getloadavg()[0] < 1:  # on a machine that others use, this process cannot have all cores
        assert max(busy) > 0.8
    source = CamVid(root=str(root), split="val")
    images = np.stack([source.image(index) for index in range(len(source))])
    masks = np.stack([source.mask(index) for index in range(len(source))])
    facts = found["splits"]["val"]
    for channel in range(3):
        values = images[..., channel].astype(np.float64) / 255
        assert facts["channels"]["mean"][channel] == pytest.approx(values.mean(), rel=1e-12)
        assert facts["channels"]["std"][channel] == pytest.approx(values.std(), rel=1e-11)
    assert facts["labels"]["class_pixels"] == np.bincount(masks.ravel(), minlength=12)[:11].tolist()
    assert facts["labels"]["void_pixels"] == int((masks == 11).sum())
    per_image = np.stack([np.bincount(mask.ravel(), minlength=12)[:11] for mask in masks])
    assert facts["labels"]["class_images"] == (per_image > 0).sum(axis=0).tolist()
