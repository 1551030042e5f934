"""Is the score that of one confusion matrix over the whole data set, whatever the batches and processes?"""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_matrix
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from segtrain.metrics import ConfusionMatrix
from segtrain.metrics.scores import score_names, scores

VOID = 255
CLASSES = 5
NAMES = ["a", "b", "c", "d", "e"]


def labels(*, seed: int = 0, absent: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Return predictions and masks (7, 9, 11), 60 % right, a quarter void, without some classes."""
    rng = np.random.default_rng(seed)
    present = [c for c in range(CLASSES) if c not in absent]
    mask = rng.choice(present, (7, 9, 11))
    prediction = np.where(rng.random(mask.shape) < 0.6, mask, rng.choice(present, mask.shape))
    mask[rng.random(mask.shape) < 0.25] = VOID
    return torch.from_numpy(prediction), torch.from_numpy(mask)


def matrix_of(prediction: Tensor, mask: Tensor, *, batch_size: int = 7) -> Tensor:
    metric = ConfusionMatrix(num_classes=CLASSES, ignore_index=VOID)
    for start in range(0, len(mask), batch_size):
        metric.update(prediction[start : start + batch_size], mask[start : start + batch_size])
    return metric.compute()


def valid_pixels(prediction: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return (truth, prediction) of the pixels that are not void, as scikit-learn takes them."""
    valid = (mask != VOID).numpy()
    return mask.numpy()[valid], prediction.numpy()[valid]


def test_three_by_three_pixels_are_counted_by_truth_and_prediction() -> None:
    mask = torch.tensor([[0, 0, 1], [1, 1, 2], [VOID, VOID, 2]])
    prediction = torch.tensor([[0, 1, 1], [1, 2, 2], [0, 1, 0]])
    metric = ConfusionMatrix(num_classes=3, ignore_index=VOID)
    metric.update(prediction, mask)
    assert metric.compute().tolist() == [[1, 1, 0], [0, 2, 1], [1, 0, 1]]


def test_scores_of_a_small_matrix_are_those_computed_by_hand() -> None:
    values = scores(torch.tensor([[1, 1, 0], [0, 2, 1], [1, 0, 1]]), ["a", "b", "c"])
    ious, f1s = (1 / 3, 2 / 4, 1 / 3), (2 / 4, 4 / 6, 2 / 4)
    assert [values[f"iou/{name}"] for name in "abc"] == pytest.approx(ious, abs=1e-12)
    assert [values[f"f1/{name}"] for name in "abc"] == pytest.approx(f1s, abs=1e-12)
    assert values["miou"] == pytest.approx(sum(ious) / 3, abs=1e-12)
    assert values["mean_f1"] == pytest.approx(sum(f1s) / 3, abs=1e-12)
    assert values["pixel_accuracy"] == pytest.approx(4 / 7, abs=1e-12)
    assert values["mean_accuracy"] == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 3, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("absent", [(), (0,), (2, 4)])
def test_the_matrix_and_all_scores_agree_with_scikit_learn(seed: int, absent: tuple[int, ...]) -> None:
    prediction, mask = labels(seed=seed, absent=absent)
    matrix = matrix_of(prediction, mask)
    truth, predicted = valid_pixels(prediction, mask)
    np.testing.assert_array_equal(matrix.numpy(), sklearn_matrix(truth, predicted, labels=range(CLASSES)))

    values = scores(matrix, NAMES)
    present = [c for c in range(CLASSES) if c not in absent]
    options = {"labels": present, "average": None}
    iou, f1 = jaccard_score(truth, predicted, **options), f1_score(truth, predicted, **options)
    expected = {
        "miou": iou.mean(),
        "mean_f1": f1.mean(),
        "pixel_accuracy": accuracy_score(truth, predicted),
        "mean_accuracy": balanced_accuracy_score(truth, predicted),
        **{f"iou/{NAMES[c]}": value for c, value in zip(present, iou, strict=True)},
        **{f"f1/{NAMES[c]}": value for c, value in zip(present, f1, strict=True)},
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name
    assert all(np.isnan(values[f"{score}/{NAMES[c]}"]) for c in absent for score in ("iou", "f1"))


def test_a_class_that_is_predicted_and_never_true_counts_in_the_mean_iou_and_not_in_the_mean_accuracy() -> None:
    mask, prediction = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 1])
    values = scores(matrix_of(prediction, mask), NAMES)
    assert values["iou/c"] == 0
    assert values["miou"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert values["mean_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that a prediction is never true
        expected = balanced_accuracy_score(mask.numpy(), prediction.numpy())
    assert values["mean_accuracy"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("absent", [(), (1,), (0, 3)])
def test_the_mean_iou_agrees_with_torchmetrics(absent: tuple[int, ...]) -> None:
    prediction, mask = labels(absent=absent)
    reference = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=VOID)
    for start in range(0, len(mask), 2):
        reference.update(prediction[start : start + 2], mask[start : start + 2])
    assert scores(matrix_of(prediction, mask), NAMES)["miou"] == pytest.approx(reference.compute().item(), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_batch_size_does_not_change_a_bit(batch_size: int) -> None:
    prediction, mask = labels()
    assert torch.equal(matrix_of(prediction, mask, batch_size=batch_size), matrix_of(prediction, mask))


def test_ignored_pixels_are_not_counted_whatever_they_are_predicted_as() -> None:
    prediction, mask = labels()
    other = torch.where(mask == VOID, (prediction + 1) % CLASSES, prediction)
    assert torch.equal(matrix_of(other, mask), matrix_of(prediction, mask))
    assert matrix_of(prediction, mask).sum() == (mask != VOID).sum()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_masks_of_few_bits_do_not_overflow(dtype: torch.dtype) -> None:
    metric = ConfusionMatrix(num_classes=200, ignore_index=VOID)
    prediction, mask = torch.tensor([199, 3]), torch.tensor([198, VOID], dtype=torch.int64).to(dtype)
    metric.update(prediction, mask)
    assert metric.compute().nonzero().tolist() == [[198, 199]]


def test_a_perfect_prediction_scores_one() -> None:
    _, mask = labels()
    values = scores(matrix_of(torch.where(mask == VOID, 0, mask), mask), NAMES)
    assert set(values.values()) == {1.0}


def test_nothing_but_void_gives_nan_and_no_error() -> None:
    values = scores(matrix_of(torch.zeros(1, 3, 3).long(), torch.full((1, 3, 3), VOID)), NAMES)
    assert all(np.isnan(value) for value in values.values())


@pytest.mark.parametrize("label", [CLASSES, 254, -1])
def test_a_label_that_is_no_class_is_an_error_and_not_dropped(label: int) -> None:
    with pytest.raises(RuntimeError):
        matrix_of(torch.full((1, 2, 2), CLASSES - 1), torch.full((1, 2, 2), label))


def test_counts_beyond_the_exact_integers_of_float32_are_kept() -> None:
    metric = ConfusionMatrix(num_classes=2, ignore_index=VOID)
    metric.matrix += torch.tensor([[2**24, 0], [0, 2**40]])
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert metric.compute().diag().tolist() == [2**24 + 1, 2**40 + 1]


def test_reset_forgets_the_counts() -> None:
    metric = ConfusionMatrix(num_classes=2, ignore_index=VOID)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    metric.reset()
    assert metric.matrix.sum() == 0


def test_score_names_are_the_keys_of_the_scores() -> None:
    assert score_names(NAMES) == list(scores(torch.eye(CLASSES).long(), NAMES))


def test_two_processes_count_what_one_counts() -> None:
    prediction, mask = labels()
    ranks = [ConfusionMatrix(num_classes=CLASSES, ignore_index=VOID) for _ in range(2)]
    for index in range(len(mask)):  # four images for one process, three for the other
        ranks[index % 2].update(prediction[index], mask[index])
    expected = matrix_of(prediction, mask)
    states = [rank.matrix.clone() for rank in ranks]
    for rank in ranks:
        # what torchmetrics does in a process group, with both states as the gathered ones
        rank.sync(dist_sync_fn=lambda tensor, group: states, distributed_available=lambda: True)
        assert torch.equal(rank.matrix, expected)
