"""Are the boundary loss's distances those to the regions, and the loss their mean over probabilities?"""

import numpy as np
import pytest
import torch
from every_loss import VOID, batch
from scipy.ndimage import distance_transform_edt

from segtrain.losses import BoundaryLoss
from segtrain.losses.boundary import signed_distances


def blocks(*, size: int = 12, block: int = 3) -> torch.Tensor:
    """Return labels (2, size, size) in blocks of 4 classes."""
    coarse = torch.randint(0, 4, (2, size // block, size // block), generator=torch.Generator().manual_seed(7))
    coarse[:, 0] = torch.arange(4)  # each image has each class
    return coarse.repeat_interleave(block, 1).repeat_interleave(block, 2)


def test_distances_of_a_row_are_counted_by_hand() -> None:
    mask = torch.tensor([[[0, 0, 0, 1, 1, 2]]])
    distances = signed_distances(mask, num_classes=4, ignore_index=VOID)
    assert distances[0, :, 0].tolist() == [
        [-2, -1, 0, 1, 2, 3],
        [3, 2, 1, 0, 0, 1],
        [5, 4, 3, 2, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_distances_agree_with_the_formula_of_the_papers_code() -> None:
    mask = blocks()
    distances = signed_distances(mask, num_classes=4, ignore_index=VOID).numpy()
    for n, c in np.ndindex(2, 4):
        inside = mask[n].numpy() == c
        assert inside.any()
        expected = distance_transform_edt(~inside) * ~inside - (distance_transform_edt(inside) - 1) * inside
        np.testing.assert_allclose(distances[n, c], expected, rtol=1e-6)


def test_distances_with_void_agree_with_the_nearest_of_all_labelled_pixels() -> None:
    mask = blocks()
    mask[:, 4:7, 2:9] = VOID
    mask[torch.rand(mask.shape, generator=torch.Generator().manual_seed(8)) < 0.2] = VOID
    distances = signed_distances(mask, num_classes=4, ignore_index=VOID).numpy()
    labels = mask.numpy()
    for n, c, y, x in np.ndindex(*distances.shape):
        label = labels[n, y, x]
        inside = label == c
        target = np.argwhere((labels[n] != c) & (labels[n] != VOID) if inside else labels[n] == c)
        nearest = np.sqrt(((target - (y, x)) ** 2).sum(axis=1)).min()
        expected = 0 if label == VOID else 1 - nearest if inside else nearest
        assert distances[n, c, y, x] == pytest.approx(expected, rel=1e-6)


def test_an_image_of_one_class_has_no_distances() -> None:
    mask = torch.tensor([[[2, 2], [2, VOID]]])
    assert not signed_distances(mask, num_classes=4, ignore_index=VOID).any()


def test_the_loss_is_the_mean_over_labelled_pixels_of_probability_times_distance() -> None:
    logits, mask = batch()
    probability = logits.double().softmax(dim=1).numpy()
    distances = signed_distances(mask, num_classes=4, ignore_index=VOID).double().numpy()
    total, count = 0.0, 0
    for n, y, x in np.ndindex(*mask.shape):
        if mask[n, y, x] != VOID:
            total += float((probability[n, :, y, x] * distances[n, :, y, x]).sum())
            count += 1
    assert BoundaryLoss(ignore_index=VOID)(logits, mask).item() == pytest.approx(total / count, rel=1e-5)


def test_a_mistake_costs_more_the_farther_from_the_region_it_is() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.int64)
    mask[:, :, :3] = 1
    losses = []
    for column in range(3, 9):
        logits = torch.zeros(1, 2, 9, 9)
        logits[:, 1, :, column] = 5
        losses.append(BoundaryLoss(ignore_index=VOID)(logits, mask).item())
    assert losses == sorted(losses)
    assert len(set(losses)) == 6
