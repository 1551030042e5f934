"""Does a run see the fraction, or the fold, of the data set that it was given?"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.parts import Folds, Fraction, Part
from segtrain.data.source import files_of, image_of, mask_of, names_of, weights_of
from segtrain.errors import DataError

COUNTS = {"train": 20, "val": 7, "test": 3}


class Split:
    """Samples that say where they come from, with all that a source may offer."""

    class_names = ("sky", "road")

    def __init__(self, *, split: str) -> None:
        self.split = split
        self.weights: Sequence[float] | None = [index / 2 for index in range(COUNTS[split])]

    def __len__(self) -> int:
        return COUNTS[self.split]

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.image(index), self.mask(index)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.full((2, 2, 3), index, np.uint8)

    def mask(self, index: int) -> NDArray[np.uint8]:
        return np.full((2, 2), len(self.split), np.uint8)

    def names(self, index: int) -> tuple[str, str]:
        return f"{self.split}/{index}", f"{self.split}/{index} mask"

    def files(self, index: int) -> Any:
        return (Path(f"{self.split}{index}.jpg"),), (Path(f"{self.split}{index}.png"),)


class Plain:
    """A user's own source, that offers nothing more than it must."""

    def __init__(self, *, split: str) -> None:
        self.length = COUNTS[split]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return np.full((2, 2, 3), index, np.uint8), np.full((2, 2), 1, np.uint8)


def members(source: Any) -> list[str]:
    return [names_of(source, index)[0] for index in range(len(source))]


def test_a_part_passes_on_all_that_its_sources_offer() -> None:
    part = Part([Split(split="val"), Split(split="train")], [(1, 4), (0, 2)])
    assert len(part) == 2
    assert [int(part[index][0].max()) for index in (0, 1)] == [4, 2]
    assert [int(part[index][1].max()) for index in (0, 1)] == [5, 3]
    assert [int(image_of(part, index).max()) for index in (0, 1)] == [4, 2]
    assert [int(mask_of(part, index).max()) for index in (0, 1)] == [5, 3]
    assert names_of(part, 0) == ("train/4", "train/4 mask")
    assert files_of(part, 1) == ((Path("val2.jpg"),), (Path("val2.png"),))
    assert weights_of(part) == [2.0, 1.0]
    assert part.class_names == ("sky", "road")


def test_a_part_of_a_source_that_offers_nothing_more_offers_nothing_more() -> None:
    part = Part([Plain(split="train")], [(0, 4), (0, 2)])
    assert [int(image_of(part, index).max()) for index in (0, 1)] == [4, 2]
    assert int(mask_of(part, 0).max()) == 1
    assert names_of(part, 1) == ("sample 2", "sample 2")
    assert (files_of(part, 0), weights_of(part), part.class_names) == (None, None, None)


def test_a_part_has_weights_only_if_all_its_sources_have() -> None:
    assert Part([Split(split="val"), Plain(split="train")], [(0, 1), (1, 0)]).weights is None


@pytest.mark.parametrize("seed", [0, 7])
def test_with_one_seed_a_smaller_fraction_is_part_of_a_larger_one(seed: int) -> None:
    parts = [
        members(Fraction(Split, fraction=fraction, seed=seed)(split="train"))
        for fraction in (0.001, 0.1, 0.25, 0.5, 0.99, 1)
    ]
    assert [len(part) for part in parts] == [1, 2, 5, 10, 20, 20]
    for smaller, larger in pairwise(parts):
        assert set(smaller) <= set(larger)
        assert len(set(larger)) == len(larger)
    assert parts[-1] == members(Split(split="train"))  # in the data set's order


def test_a_fraction_depends_on_the_seed_alone() -> None:
    drawn = [tuple(members(Fraction(Split, fraction=0.5, seed=seed)(split="train"))) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_fraction_leaves_the_other_splits_whole(split: str) -> None:
    assert members(Fraction(Split, fraction=0.1, seed=0)(split=split)) == members(Split(split=split))


def test_the_weights_of_a_fraction_are_those_of_its_images() -> None:
    part = Fraction(Split, fraction=0.3, seed=3)(split="train")
    assert weights_of(part) == [int(name.split("/")[1]) / 2 for name in members(part)]


@pytest.mark.parametrize("folds", [2, 3, 5, 27])
def test_every_image_validates_in_one_fold_and_trains_in_the_others(folds: int) -> None:
    everything = set(members(Split(split="train")) + members(Split(split="val")))
    validated: list[str] = []
    for fold in range(folds):
        source = Folds(Split, folds=folds, fold=fold)
        train, val = members(source(split="train")), members(source(split="val"))
        assert set(train) | set(val) == everything
        assert len(train) + len(val) == len(everything)
        assert 27 // folds <= len(val) <= -(-27 // folds)
        assert members(source(split="test")) == members(Split(split="test"))
        validated += val
    assert sorted(validated) == sorted(everything)


def test_a_fold_is_a_mixture_of_both_splits_in_no_order() -> None:
    val = members(Folds(Split, folds=2, fold=0)(split="val"))
    numbers = [int(name.split("/")[1]) for name in val if name.startswith("train/")]
    assert 4 < len(numbers) < 13  # of 20
    assert any(name.startswith("val/") for name in val)
    assert len({number % 2 for number in numbers}) == 2


def test_folds_are_the_same_whenever_they_are_opened() -> None:
    first, second = (members(Folds(Split, folds=3, fold=1)(split="val")) for _ in range(2))
    assert first == second


def test_more_folds_than_images_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"^dataset\.folds: 28 folds of 27 images; give 27 or fewer"):
        Folds(Split, folds=28, fold=0)(split="train")


def test_a_fraction_of_a_fold_is_drawn_from_its_training_images_and_validates_on_all_the_others() -> None:
    folds = Folds(Split, folds=3, fold=1)
    source = Fraction(folds, fraction=0.5, seed=0)
    train, val = members(source(split="train")), members(source(split="val"))
    assert len(train) == 9
    assert set(train) < set(members(folds(split="train")))
    assert val == members(folds(split="val"))
    inner = source(split="train")
    assert weights_of(inner) == [int(name.split("/")[1]) / 2 for name in train]
    assert getattr(inner, "class_names", None) == ("sky", "road")
    assert files_of(inner, 0) == (
        (Path(f"{train[0].replace('/', '')}.jpg"),),
        (Path(f"{train[0].replace('/', '')}.png"),),
    )


def test_a_data_set_without_a_val_split_is_dealt_from_its_train_split_alone() -> None:
    def only_train(*, split: str) -> Split:
        assert split == "train"
        return Split(split=split)

    parts = [Folds(only_train, folds=4, fold=1, joined=["train"])(split=split) for split in ("train", "val")]
    assert sorted(members(parts[0]) + members(parts[1])) == sorted(members(Split(split="train")))
    assert len(parts[1]) == 5
