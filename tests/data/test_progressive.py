"""Do crops grow with the epochs, with the field of view and the classes that they had?"""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segtrain.data.augmentation import Augmentation
from segtrain.data.crop import RandomScaleCrop
from segtrain.data.progressive import Progressive, side_at
from segtrain.data.samples import Key, Samples


def sample(channels: int = 3, side: int = 128, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (side, side, channels)).astype(np.uint8)
    mask = rng.integers(0, 3, (side, side)).astype(np.uint8)
    mask[:20] = 255
    return (image if dtype is np.uint8 else (image / 255).astype(dtype)), mask


@pytest.mark.parametrize(
    ("shares", "epochs", "lengths"),
    [([0.5, 0.75, 1.0], 60, [20, 20, 20]), ([0.5, 1.0], 5, [3, 2]), ([0.25, 0.5, 1.0], 4, [2, 1, 1]), ([1.0], 7, [7])],
)
def test_the_epochs_are_divided_into_parts_of_one_length(shares: list[float], epochs: int, lengths: list[int]) -> None:
    progressive = Progressive(shares, epochs=epochs)
    found = [progressive.share(epoch) for epoch in range(epochs)]
    assert found == sorted(found)
    assert [Counter(found)[share] for share in shares] == lengths
    assert progressive.share(epochs + 3) == shares[-1]


@pytest.mark.parametrize(
    ("share", "side", "expected"),
    [(0.5, 256, 128), (0.75, 256, 192), (0.5, 360, 192), (0.6, 512, 320), (1, 360, 360), (0.9, 100, 96), (0.5, 20, 20),
     (0.99, 40, 32)],
)  # fmt: skip
def test_sides_are_multiples_of_the_stride_and_no_larger_than_they_were(share: float, side: int, expected: int) -> None:
    assert side_at(share, side) == expected


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_averaged_over_areas_and_masks_keep_their_labels(channels: int, dtype: type) -> None:
    image, mask = sample(channels, dtype=dtype)
    smaller, labels = Progressive([0.5, 1.0], epochs=2)(image, mask, epoch=0)
    assert smaller.shape == (64, 64, channels)
    assert smaller.dtype == image.dtype
    means = F.avg_pool2d(torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1), 2).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(smaller, means, atol=0.5 if dtype is np.uint8 else 1e-6)
    assert labels.dtype == mask.dtype
    for row, column in np.ndindex(64, 64):
        assert labels[row, column] in mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    assert (labels[:10] == 255).all()


def test_labels_of_many_classes_are_kept() -> None:
    mask = np.full((64, 64), 70_000, dtype=np.int32)
    mask[32:] = -1
    _, labels = Progressive([0.5], epochs=1)(np.zeros((64, 64, 3), np.uint8), mask, epoch=0)
    assert labels.tolist() == [[70_000] * 32] * 16 + [[-1] * 32] * 16


def test_whole_crops_are_what_they_would_be_without() -> None:
    image, mask = sample(side=100)
    same, labels = Progressive([0.5, 1.0], epochs=2)(image, mask, epoch=1)
    assert same is image
    assert labels is mask


def test_a_sample_is_the_same_crop_at_another_size() -> None:
    source = [sample(), sample()]
    plain, growing = (
        Samples(
            source,  # type: ignore[arg-type]
            augmentation=Augmentation([RandomScaleCrop(64, 64, scale_range=(0.5, 2.0))], ignore_index=255),
            progressive=progressive,
            seed=3,
            num_classes=3,
            ignore_index=255,
        )
        for progressive in (None, Progressive([0.5, 1.0], epochs=4))
    )
    for epoch, side in ((0, 32), (1, 32), (2, 64), (3, 64)):
        key = Key(epoch, 1)
        ours, again, whole = growing[key], growing[key], plain[key]
        assert ours["image"].shape[:2] == ours["mask"].shape == (side, side)
        assert (ours["image"] == again["image"]).all()
        expected = Progressive([side / 64], epochs=1)(whole["image"], whole["mask"], epoch=0)
        assert (ours["image"] == expected[0]).all()
        assert (ours["mask"] == expected[1]).all()
        assert ours["seed"] == whole["seed"]


@pytest.mark.parametrize(
    ("shares", "epochs", "sentence"),
    [([], 5, "are not shares"), ([0.5, 2.0], 5, "are not shares"), ([0.5, 1.0], 1, "2 sizes for 1 epochs")],
)
def test_shares_that_cannot_be_are_refused(shares: list[float], epochs: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Progressive(shares, epochs=epochs)
