"""Is the built-in data set whole: its size, its labels, and no image in two splits?"""

import hashlib

import numpy as np
import pytest

from segtrain.data.nuclei import FOLDER, Nuclei

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    return {split: [Nuclei(split=split)[i] for i in range(len(Nuclei(split=split)))] for split in SPLITS}


Splits = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def test_there_are_100_to_150_images_in_the_splits_that_the_readme_says(splits: Splits) -> None:
    counts = [len(splits[split]) for split in SPLITS]
    assert 100 <= sum(counts) <= 150
    assert "| **all** | {} | {} | {} |".format(*counts) in (FOLDER / "README.md").read_text()


def test_every_image_is_256_pixels_square_rgb_with_a_mask_of_both_classes(splits: Splits) -> None:
    for samples in splits.values():
        for image, mask in samples:
            assert image.shape == (256, 256, 3)
            assert mask.shape == (256, 256)
            assert set(np.unique(mask)) == {0, 1}


def test_the_folder_is_under_5_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5_000_000


def test_no_image_is_there_twice_in_any_orientation(splits: Splits) -> None:
    seen: dict[str, str] = {}
    for split, samples in splits.items():
        for number, (image, _) in enumerate(samples):
            turned = [np.rot90(flipped, turns) for flipped in (image, image[:, ::-1]) for turns in range(4)]
            digests = {hashlib.sha256(np.ascontiguousarray(view).tobytes()).hexdigest() for view in turned}
            assert not digests & seen.keys(), (split, number, [seen[d] for d in digests & seen.keys()])
            seen |= dict.fromkeys(digests, f"{split} {number}")


def test_every_mask_belongs_to_an_image() -> None:
    for split in SPLITS:
        images = {path.stem for path in (FOLDER / "images" / split).iterdir()}
        assert images == {path.stem for path in (FOLDER / "masks" / split).iterdir()}


def test_the_licence_and_source_are_named() -> None:
    text = (FOLDER / "README.md").read_text()
    assert "CC0" in text
    assert "BBBC038" in text
