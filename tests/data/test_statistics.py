"""Are frequencies, channel statistics and class weights those of the papers and of NumPy?"""

import math

import numpy as np
import pytest

from segtrain.data.statistics import (
    channel_statistics,
    class_frequencies,
    effective_number,
    enet,
    inverse_frequency,
    median_frequency,
)

PIXELS = [600, 300, 100, 0]


def test_frequencies_are_shares_of_the_labelled_pixels() -> None:
    np.testing.assert_allclose(class_frequencies(PIXELS), [0.6, 0.3, 0.1, 0])
    np.testing.assert_array_equal(class_frequencies([0, 0]), [0, 0])


def test_channel_statistics_of_bytes_are_numpys_of_all_pixels_over_255() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
    wide = images.astype(np.int64)
    sums, squares = wide.sum((0, 1, 2)).tolist(), (wide**2).sum((0, 1, 2)).tolist()
    mean, deviation = channel_statistics(5 * 7 * 9, sums, squares, scale=255)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(deviation, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_the_deviation_of_many_nearly_equal_bytes_does_not_cancel() -> None:
    count = 10**12  # of 254 and one 255: float64 sums would lose the one
    _, (deviation,) = channel_statistics(count, [254 * count + 1], [254**2 * count + 255**2 - 254**2])
    assert deviation == pytest.approx(math.sqrt((1 - 1 / count) / count), rel=1e-9)


def test_inverse_frequency_by_hand() -> None:
    # 1/0.6, 1/0.3, 1/0.1 = 5/3, 10/3, 10: their mean is 5
    np.testing.assert_allclose(inverse_frequency(PIXELS), [1 / 3, 2 / 3, 2, 0])


def test_median_frequency_by_hand() -> None:
    # class 2 is in one image of 500 pixels alone: shares 0.6, 0.3, 0.2; the median is 0.3, the weights 0.5, 1, 1.5
    np.testing.assert_allclose(median_frequency(PIXELS, [1000, 1000, 500, 0]), [0.5, 1, 1.5, 0])


def test_enet_by_hand() -> None:
    raw = np.array([1 / math.log(1.62), 1 / math.log(1.32), 1 / math.log(1.12)])
    np.testing.assert_allclose(enet(PIXELS), [*(raw / raw.mean()), 0])


def test_effective_number_by_hand() -> None:
    # E = 1 + beta + ... + beta^(n-1), and the weight is 1/E: 1/1, 1/1.5, 1/1.75 for beta = 0.5
    raw = np.array([1, 1 / 1.5, 1 / 1.75])
    np.testing.assert_allclose(effective_number([1, 2, 3, 0], beta=0.5), [*(raw / raw.mean()), 0])


@pytest.mark.parametrize("weights", [inverse_frequency, enet, effective_number, lambda n: median_frequency(n, n)])
def test_weights_have_mean_one_over_the_classes_that_occur_and_are_zero_for_the_others(weights) -> None:  # type: ignore[no-untyped-def]
    found = weights(np.array([5, 0, 17, 1000, 1]))
    assert found[1] == 0
    assert found[found > 0].mean() == pytest.approx(1)
    assert len(found[found > 0]) == 4
    np.testing.assert_array_equal(weights(np.zeros(3)), np.zeros(3))
