"""Are the losses what their formulas say, also with void pixels, few bits and several processes?"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import run_in_two_processes

from segtrain.losses import CrossEntropyLoss, DiceLoss, WeightedSum

VOID = 255
WEIGHTS = [0.5, 2.0, 1.0, 0.25]

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross-entropy": lambda: CrossEntropyLoss(ignore_index=VOID),
    "weighted, smoothed": lambda: CrossEntropyLoss(ignore_index=VOID, class_weights=WEIGHTS, label_smoothing=0.1),
    "dice": lambda: DiceLoss(ignore_index=VOID),
    "sum": lambda: WeightedSum(
        losses=[CrossEntropyLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID)], weights=[1.0, 0.5]
    ),
}
each_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())


def batch(*, seed: int = 0, void: float = 0.3, size: int = 5) -> tuple[Tensor, Tensor]:
    """Return logits (2, 4, size, size) and a mask with a share of void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, size, size, generator=generator)
    mask = torch.randint(0, 4, (2, size, size), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < void] = VOID
    return logits, mask


def cross_entropy_by_hand(
    logits: Tensor, mask: Tensor, *, weights: list[float] | None = None, smoothing: float = 0.0
) -> float:
    """Sum over pixels and classes one by one, in float64."""
    scores, total, count = logits.double().numpy(), 0.0, 0.0
    for n, y, x in np.ndindex(*mask.shape):
        label = int(mask[n, y, x])
        if label == VOID:
            continue
        pixel = scores[n, :, y, x]
        log_probability = pixel - math.log(sum(math.exp(value) for value in pixel))
        for c, value in enumerate(log_probability):
            target = (1 - smoothing) * (c == label) + smoothing / len(pixel)
            total -= target * value * (1 if weights is None else weights[c])
        count += 1 if weights is None else weights[label]
    return total / count


def dice_by_hand(logits: Tensor, mask: Tensor, *, smooth: float) -> float:
    """Sum over pixels and classes in NumPy, in float64."""
    exponential = np.exp(logits.double().numpy())
    probability = exponential / exponential.sum(axis=1, keepdims=True)
    valid = mask.numpy() != VOID
    losses = []
    for c in range(logits.shape[1]):
        truth = (mask.numpy() == c) & valid
        if truth.any():
            p = probability[:, c][valid]
            losses.append(1 - (2 * probability[:, c][truth].sum() + smooth) / (p.sum() + truth.sum() + smooth))
    return float(np.mean(losses))


def test_cross_entropy_of_three_by_three_pixels_is_the_mean_negative_log_probability() -> None:
    # two classes; logits (log 3, 0) give probabilities (3/4, 1/4)
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    mask = torch.tensor([[[0, 0, 1], [1, VOID, 0], [VOID, VOID, 0]]])
    expected = -(4 * math.log(0.75) + 2 * math.log(0.25)) / 6
    assert CrossEntropyLoss(ignore_index=VOID)(logits, mask).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_agrees_with_a_sum_by_hand_and_with_torch(weights: list[float] | None, smoothing: float) -> None:
    logits, mask = batch()
    loss = CrossEntropyLoss(ignore_index=VOID, class_weights=weights, label_smoothing=smoothing)(logits, mask)
    assert loss.item() == pytest.approx(
        cross_entropy_by_hand(logits, mask, weights=weights, smoothing=smoothing), rel=1e-5
    )
    tensor = None if weights is None else torch.tensor(weights)
    torchs = nn.CrossEntropyLoss(weight=tensor, ignore_index=VOID, label_smoothing=smoothing)(logits, mask)
    torch.testing.assert_close(loss, torchs)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 10.0])
def test_dice_agrees_with_numpy(smooth: float) -> None:
    logits, mask = batch()
    loss = DiceLoss(ignore_index=VOID, smooth=smooth)(logits, mask)
    assert loss.item() == pytest.approx(dice_by_hand(logits, mask, smooth=smooth), rel=1e-5)


def test_dice_leaves_out_classes_that_no_pixel_has() -> None:
    logits, mask = batch()
    mask[mask == 3] = 0
    loss = DiceLoss(ignore_index=VOID)(logits, mask)
    assert loss.item() == pytest.approx(dice_by_hand(logits, mask, smooth=1.0), rel=1e-5)


def test_dice_of_a_certain_and_right_prediction_is_zero_and_of_a_wrong_one_is_one() -> None:
    _, mask = batch(void=0)
    right = 100 * F.one_hot(mask, 4).permute(0, 3, 1, 2).float()
    wrong = 100 * F.one_hot((mask + 1) % 4, 4).permute(0, 3, 1, 2).float()
    loss = DiceLoss(ignore_index=VOID, smooth=0.0)
    assert loss(right, mask).item() == pytest.approx(0, abs=1e-6)
    assert loss(wrong, mask).item() == pytest.approx(1, abs=1e-6)


def test_weighted_sum_adds_the_losses_times_their_weights() -> None:
    logits, mask = batch()
    loss = WeightedSum(losses=[CrossEntropyLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID)], weights=[0.3, 2.0])
    expected = 0.3 * cross_entropy_by_hand(logits, mask) + 2.0 * dice_by_hand(logits, mask, smooth=1.0)
    assert loss(logits, mask).item() == pytest.approx(expected, rel=1e-5)


@each_loss
def test_ignored_pixels_do_not_change_the_loss_or_get_a_gradient(make: Callable[[], nn.Module]) -> None:
    logits, mask = batch()
    void = (mask == VOID).unsqueeze(1)
    other = torch.where(void, 50 * torch.randn_like(logits), logits).requires_grad_()
    loss = make()(other, mask)
    torch.testing.assert_close(loss, make()(logits, mask))
    loss.backward()
    assert other.grad is not None
    assert not other.grad[void.expand_as(other)].any()
    assert other.grad[~void.expand_as(other)].any()


@each_loss
def test_a_batch_of_void_gives_zero_with_a_finite_gradient(make: Callable[[], nn.Module]) -> None:
    logits, mask = batch()
    logits.requires_grad_()
    loss = make()(logits, torch.full_like(mask, VOID))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@each_loss
def test_bf16_logits_are_computed_in_float32(make: Callable[[], nn.Module]) -> None:
    logits, mask = batch(size=32)
    loss = make()(logits.bfloat16(), mask)
    assert loss.dtype == torch.float32
    # the bf16 values themselves, summed in float32: no further rounding
    torch.testing.assert_close(loss, make()(logits.bfloat16().float(), mask), rtol=0, atol=0)


@each_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_masks_of_every_integer_type_give_the_same_loss(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    logits, mask = batch()
    torch.testing.assert_close(make()(logits, mask.to(dtype)), make()(logits, mask), rtol=0, atol=0)


@each_loss
def test_the_order_of_the_pixels_does_not_matter(make: Callable[[], nn.Module]) -> None:
    logits, mask = batch()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    shuffled = logits.flatten(2)[..., order].view_as(logits), mask.flatten(1)[..., order].view_as(mask)
    torch.testing.assert_close(make()(*shuffled), make()(logits, mask))


@pytest.mark.parametrize("name", ["cross-entropy", "dice", "sum"])
def test_renaming_the_classes_does_not_change_the_loss(name: str) -> None:
    logits, mask = batch()
    new_name = torch.tensor([2, 0, 3, 1])
    renamed = torch.where(mask == VOID, VOID, new_name[mask.clamp(max=3)])
    moved = torch.empty_like(logits)
    moved[:, new_name] = logits
    torch.testing.assert_close(LOSSES[name]()(moved, renamed), LOSSES[name]()(logits, mask))


@each_loss
def test_gradients_agree_with_finite_differences(make: Callable[[], nn.Module]) -> None:
    logits, mask = batch(size=2)
    logits.requires_grad_()
    loss = make()
    loss(logits, mask).backward()
    assert logits.grad is not None
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        difference = (loss(logits + 1e-2 * direction, mask) - loss(logits - 1e-2 * direction, mask)) / 2e-2
    assert difference.item() == pytest.approx((logits.grad * direction).sum().item(), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0])
def test_label_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing: {smoothing} is not in \[0, 1\)"):
        CrossEntropyLoss(ignore_index=VOID, label_smoothing=smoothing)


def test_a_number_of_class_weights_that_is_not_the_number_of_classes_is_refused() -> None:
    logits, mask = batch()
    with pytest.raises(ValueError, match="class_weights: 3 given for 4 classes"):
        CrossEntropyLoss(ignore_index=VOID, class_weights=[1, 2, 3])(logits, mask)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 2.0, 3.0]])
def test_weighted_sum_wants_one_weight_a_loss(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=f"weights: {len(weights)} given for 2 losses"):
        WeightedSum(losses=[DiceLoss(ignore_index=VOID), DiceLoss(ignore_index=VOID)], weights=weights)


def test_class_weights_are_not_in_the_checkpoint_but_follow_the_module() -> None:
    loss = CrossEntropyLoss(ignore_index=VOID, class_weights=WEIGHTS)
    assert not loss.state_dict()  # another weighting must not make a checkpoint unreadable
    weights = loss.to("meta").class_weights
    assert weights is not None
    assert weights.device.type == "meta"


# how much of each rank's half of the joined batch is void
RANKS_VOID = {"even": (0.3, 0.3), "uneven": (0.9, 0.0), "one rank is all void": (1.0, 0.2), "all void": (1.0, 1.0)}


def joined_batch(case: str) -> tuple[Tensor, Tensor]:
    """Return images (4, 3, 6, 6) and masks, two for each rank."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(4, 3, 6, 6, generator=generator)
    mask = torch.randint(0, 4, (4, 6, 6), generator=generator)
    for rank, void in enumerate(RANKS_VOID[case]):
        half = mask[2 * rank : 2 * rank + 2]
        half[torch.rand(half.shape, generator=generator) < void] = VOID
    return image, mask


def gradients(model: nn.Module, image: Tensor, mask: Tensor, name: str) -> list[Tensor]:
    """Return the gradients of a loss with respect to the parameters."""
    model.zero_grad()
    LOSSES[name]()(model(image), mask).backward()
    found = [parameter.grad for parameter in model.parameters()]
    return [gradient.clone() for gradient in found if gradient is not None]


def network() -> nn.Module:
    """Return the same network in every process."""
    torch.manual_seed(4)
    return nn.Conv2d(3, 4, 3, padding=1)


def gradients_of_rank(rank: int) -> dict[str, Any]:
    """Return what DDP averages, and the loss of validation, of every case."""
    model = DistributedDataParallel(network())
    results: dict[str, Any] = {}
    for case in RANKS_VOID:
        image, mask = (tensor[2 * rank : 2 * rank + 2] for tensor in joined_batch(case))
        for name in ("cross-entropy", "weighted, smoothed"):
            results[f"{case}/{name}"] = gradients(model, image, mask, name)
        with torch.no_grad():
            results[f"{case}/evaluation"] = LOSSES["cross-entropy"]()(model(image), mask)
    return results


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_in_two_processes(gradients_of_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", RANKS_VOID)
@pytest.mark.parametrize("name", ["cross-entropy", "weighted, smoothed"])
def test_gradients_of_two_processes_are_those_of_one_on_the_joined_batch(
    case: str, name: str, two_ranks: list[dict[str, Any]]
) -> None:
    expected = gradients(network(), *joined_batch(case), name)
    for result in two_ranks:
        torch.testing.assert_close(result[f"{case}/{name}"], expected, rtol=1e-5, atol=1e-7)


def test_evaluation_of_several_processes_gives_each_the_loss_of_its_own_batch(two_ranks: list[dict[str, Any]]) -> None:
    image, mask = joined_batch("uneven")
    for rank, result in enumerate(two_ranks):
        half = slice(2 * rank, 2 * rank + 2)
        expected = LOSSES["cross-entropy"]()(network()(image[half]), mask[half])
        torch.testing.assert_close(result["uneven/evaluation"], expected)
