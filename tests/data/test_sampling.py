"""Does each image come as often in an epoch as its sampling's definition says?"""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.labels import LabelMap
from segtrain.data.sampler import epoch_order
from segtrain.data.samples import Samples
from segtrain.data.sampling import BalancedByClass, ByWeight, RepeatFactor, Sampling, Shuffle
from segtrain.errors import UserError

VOID = 255


class Masks:
    """Images whose masks have the given classes, some void; the images cannot be read."""

    def __init__(self, *classes: tuple[int, ...], weights: list[float] | None = None) -> None:
        self.classes = classes
        self.weights = weights

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("an image was read where the mask is all that is wanted")

    def mask(self, index: int) -> NDArray[np.uint8]:
        mask = np.full((4, 4), VOID, np.uint8)
        mask.flat[: len(self.classes[index])] = self.classes[index]
        return mask


def samples(*classes: tuple[int, ...], weights: list[float] | None = None, labels: LabelMap | None = None) -> Samples:
    source = Masks(*classes, weights=weights)
    return Samples(source, augmentation=None, seed=0, num_classes=3, ignore_index=VOID, labels=labels)


def counts(sampling: Sampling, data: Samples, *, epochs: int) -> NDArray[np.int64]:
    """Return (epochs, N): how often each sample came in each epoch."""
    repeats = sampling.repeats(data)
    orders = [epoch_order(len(data), seed=0, epoch=epoch, repeats=repeats)[:, 0] for epoch in range(epochs)]
    return np.array([np.bincount(order, minlength=len(data)) for order in orders])


COMMON = [(0,)] * 6 + [(0, 1)] * 3 + [(0, 2)]  # class 0 in all of 10 images, 1 in three, 2 in one


def test_shuffle_has_every_sample_once() -> None:
    assert Shuffle().repeats(samples(*COMMON)) is None
    assert (counts(Shuffle(), samples(*COMMON), epochs=3) == 1).all()


def test_the_repeat_factor_is_that_of_lvis_by_hand() -> None:
    # Gupta et al., section 5.1: f = 1, 0.3, 0.1; r(c) = max(1, sqrt(t / f)); an image's is its rarest class's
    expected = [1.0] * 6 + [math.sqrt(0.5 / 0.3)] * 3 + [math.sqrt(0.5 / 0.1)]
    np.testing.assert_allclose(RepeatFactor(threshold=0.5).repeats(samples(*COMMON)), expected)
    np.testing.assert_allclose(RepeatFactor(threshold=0.3).repeats(samples(*COMMON)), [1.0] * 9 + [math.sqrt(3)])


def test_images_come_as_often_as_their_repeat_factor_and_an_epoch_is_as_long_as_all_factors_together() -> None:
    factors = np.array([1.0] * 6 + [math.sqrt(5 / 3)] * 3 + [math.sqrt(5)])  # 12.1 in all
    found = counts(RepeatFactor(threshold=0.5), samples(*COMMON), epochs=2000)
    assert (found.sum(axis=1) == 12).all()
    np.testing.assert_allclose(found.mean(axis=0), factors * 12 / factors.sum(), atol=0.04)


def test_an_image_without_any_class_comes_once_under_the_repeat_factor() -> None:
    assert RepeatFactor(threshold=1).repeats(samples((0,), (), (0,), (0,))).tolist() == [
        *(pytest.approx(math.sqrt(4 / 3)), 1.0),
        *(pytest.approx(math.sqrt(4 / 3)),) * 2,
    ]


def test_balanced_draws_every_class_equally_often_where_each_image_has_one() -> None:
    classes = [0] * 9 + [1] * 2 + [2]
    found = counts(BalancedByClass(), samples(*((label,) for label in classes)), epochs=1000)
    by_class = Counter({label: int(found[:, np.array(classes) == label].sum()) for label in range(3)})
    assert found.sum() == 12000
    assert all(count == pytest.approx(4000, rel=0.03) for count in by_class.values())


def test_balanced_is_the_chance_to_draw_a_class_and_then_one_of_its_images() -> None:
    # by hand: class 0 has 10 images, class 1 three, class 2 one, and each class is drawn in a third of the cases
    chances = [1 / 30] * 6 + [1 / 30 + 1 / 9] * 3 + [1 / 30 + 1 / 3]
    np.testing.assert_allclose(BalancedByClass().repeats(samples(*COMMON)), 10 * np.array(chances))
    # a class that no image has is not drawn, an image without any class neither
    np.testing.assert_allclose(BalancedByClass().repeats(samples((0,), (2,), (), (2,))), [2, 1, 0, 1])


def test_presence_is_that_of_the_mapped_labels_without_void_and_without_reading_images() -> None:
    plain = samples((0, 7), (1, 2), (7,), labels=LabelMap({7: 2, 2: None}, ignore_index=VOID))
    assert plain.presence().tolist() == [[True, False, True], [False, True, False], [False, False, True]]


def test_presence_leaves_labels_outside_the_classes_to_the_check_of_the_sample() -> None:
    assert samples((0, 7), (2,)).presence().tolist() == [[True, False, False], [False, False, True]]


WEIGHTS = [0.0, 1.0, 1.0, 2.0, 3.5, 0.0, 0.5]


@pytest.mark.parametrize("own", [True, False], ids=["the data set's weights", "given weights"])
def test_images_come_as_often_as_their_weights_and_never_with_a_weight_of_zero(own: bool) -> None:
    data = samples(*[(0,)] * 7, weights=WEIGHTS if own else [1.0] * 7)
    found = counts(ByWeight() if own else ByWeight(WEIGHTS), data, epochs=1000)
    assert (found.sum(axis=1) == 7).all()
    assert not found[:, [0, 5]].any()
    np.testing.assert_allclose(found.mean(axis=0), 7 * np.array(WEIGHTS) / 8, atol=0.05)


@pytest.mark.parametrize("sampling", [RepeatFactor(threshold=0.7), BalancedByClass(), ByWeight([0.1, 3.7] * 5)])
def test_the_count_of_an_image_is_its_expectation_rounded_up_or_down_in_every_epoch(sampling: Sampling) -> None:
    data = samples(*COMMON)
    repeats = sampling.repeats(data)
    assert repeats is not None
    found = counts(sampling, data, epochs=300)
    expected = repeats * found[0].sum() / repeats.sum()
    assert (np.abs(found - expected) < 1 + 1e-9).all()
    assert (found >= np.floor(expected - 1e-9)).all()
    assert (found <= np.ceil(expected + 1e-9)).all()


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0, 2.0], r"^sampling\.weights: 2 weights for 3 training images; give one each"),
        ([1.0, -1.0, 2.0], r"^sampling\.weights: weights are numbers of 0 or more, not all of them 0"),
        ([1.0, math.nan, 2.0], r"^sampling\.weights: weights are numbers of 0 or more"),
        ([1.0, math.inf, 2.0], r"^sampling\.weights: weights are numbers of 0 or more"),
        ([0.0, 0.0, 0.0], r"^sampling\.weights: .*not all of them 0"),
        (None, r"^sampling: .*the data set has none; give a CSV with a column weight \(dataset=csv\)"),
    ],
)
def test_wrong_weights_are_refused_with_the_remedy(weights: list[float] | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ByWeight(weights).repeats(samples((0,), (1,), (2,)))


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, math.nan])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"^threshold: .* is not above 0 to 1, a share of the images"):
        RepeatFactor(threshold=threshold)


def test_masks_are_read_once_for_sampling_and_class_weights_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = samples((0,), (1,), (0, 2)), []
    mask = data._mask
    monkeypatch.setattr(data, "_mask", lambda index: read.append(index) or mask(index))
    for sampling in (BalancedByClass(), RepeatFactor(0.5)):
        assert sampling.reads_masks
        sampling.repeats(data)
    data.label_counts()
    assert sorted(read) == [0, 1, 2]


def test_masks_of_nothing_but_void_cannot_be_balanced() -> None:
    with pytest.raises(UserError, match=r"sampling: the training masks have no class but void"):
        BalancedByClass().repeats(samples((), ()))
