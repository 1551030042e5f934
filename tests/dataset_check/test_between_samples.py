"""Are copies found by content, across splits and formats, and classes that a split lacks?"""

from pathlib import Path

import numpy as np
from checking import check, kinds
from conftest import Compose
from planted import CONFIG, image, mask, save, write_clean

from segtrain.dataset_check.record import ImageFacts, MaskFacts, Record
from segtrain.dataset_check.split_rules import split_problems


def record(split: str, index: int, *, digest: str, truth: str = "m", constant: bool = False) -> Record:
    facts = ImageFacts(4, 4, 3, "uint8", [0] * 3, [0] * 3, constant, digest, None)
    return Record(split, index, f"{split}{index}", f"{split}{index}m", facts, MaskFacts(4, 4, truth, {0: 16}, {0: 16}))


def test_copies_are_errors_between_splits_and_warnings_within_one() -> None:
    records = [
        *(record("train", 0, digest="a"), record("train", 1, digest="b"), record("train", 2, digest="b")),
        *(record("val", 0, digest="a"), record("val", 1, digest="c", truth="x")),
        *(record("test", 0, digest="c", truth="y"), record("test", 1, digest="d")),
    ]
    found = {problem.kind: problem for problem in split_problems(records, class_names=["one"]) if problem.items}
    assert [(item.text, item.files) for item in found["leak"].items] == [
        ("in train and val", ("train0", "val0")),
        ("in val and test", ("val1", "test0")),
    ]
    assert [item.files for item in found["duplicate"].items] == [("train1", "train2")]
    assert [item.files for item in found["other_mask"].items] == [("val1", "test0", "val1m", "test0m")]
    assert set(found) == {"leak", "duplicate", "other_mask"}


def test_images_of_one_value_are_nobodys_copy() -> None:
    records = [record("train", 0, digest="a", constant=True), record("val", 0, digest="a", constant=True)]
    assert not any(problem.items for problem in split_problems(records, class_names=["one"]))


def test_a_class_is_absent_from_a_split_or_from_all() -> None:
    records = [record("train", 0, digest="a"), record("val", 0, digest="b")]
    records[1].mask = MaskFacts(4, 4, "m", {1: 16}, {1: 16})
    (problem,) = [p for p in split_problems(records, class_names=["x", "y", "z"]) if p.items]
    texts = [
        "class 2 (z) is in no mask at all",
        "class 1 (y) is in no mask of train",
        "class 0 (x) is in no mask of val",
    ]
    assert [item.text for item in problem.items] == texts


def test_a_copy_in_another_format_is_the_same_image_and_one_other_pixel_is_not(
    compose_config: Compose, tmp_path: Path
) -> None:
    root = write_clean(tmp_path)
    pixels = image(1)
    save(root / "val" / "images" / "again.tif", pixels)
    save(root / "val" / "masks" / "again.png", mask(1))
    assert kinds(check(compose_config, root, *CONFIG)) == ["leak"]
    pixels[5, 5, 1] ^= 1
    save(root / "val" / "images" / "again.tif", pixels)
    assert check(compose_config, root, *CONFIG).problems == []


def test_small_images_are_mentioned_and_no_fault(compose_config: Compose, tmp_path: Path) -> None:
    (problem,) = check(compose_config, write_clean(tmp_path), *CONFIG, "dataset.crop_size=64").problems
    assert (problem.kind, problem.severity, len(problem.items)) == ("small_image", "info", 8)


def test_a_mask_turned_against_its_image_says_so(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    save(root / "train" / "masks" / "0.png", np.ascontiguousarray(mask(1).T))
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert problem.items[0].text == "the mask is 40x48 and its image 48x40: one of them is turned by 90 degrees"
