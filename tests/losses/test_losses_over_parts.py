"""Do the batches of an optimizer step, in one process or two, add up to the gradient of one batch of all images?"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_loss import LOSSES, VOID, WEIGHTS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import run_in_two_processes

from segtrain.data.steps import count_labels, tell_of_step
from segtrain.losses import CrossEntropyLoss, FocalLoss, WeightedSum
from segtrain.losses.reduction import part_of_step

CLASSES, SIZE = 4, 6
OF_PIXELS = {
    name: LOSSES[name](WEIGHTS).double()
    for name in (
        "cross-entropy",
        "weighted, smoothed",
        "focal",
        "focal, weighted",
        "focal, multilabel",
        "binary cross-entropy",
        "boundary",
    )
}
OF_PIXELS["sum"] = WeightedSum(
    losses=[CrossEntropyLoss(ignore_index=VOID, class_weights=WEIGHTS), FocalLoss(ignore_index=VOID)],
    weights=[1.0, 0.5],
)
OF_PIXELS["a class left out"] = FocalLoss(ignore_index=2)  # for masks whose void is that class
OWN = [name for name in LOSSES if name not in OF_PIXELS]  # of sums over a class, of sorted or of hard pixels


def images_and_mask(name: str = "") -> tuple[Tensor, Tensor]:
    """Return 8 images, float64, and a uint8 mask with very different shares of void; the first two are all void."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(8, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, CLASSES, (8, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    for labels, void in zip(mask, (1.0, 1.0, 0.9, 0.0, 0.2, 0.97, 0.5, 0.0), strict=True):
        labels[torch.rand(labels.shape, generator=generator) < void] = VOID
    return images, mask.masked_fill(mask == VOID, 2) if name == "a class left out" else mask


def network() -> nn.Module:
    torch.manual_seed(4)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
    return nn.Sequential(*layers).double()


def batches_of(images: Tensor, mask: Tensor, parts: int) -> list[dict[str, Any]]:
    """Return the batches of a step as the loader gives them."""
    batches = [
        {"image": i, "mask": m, "labels": count_labels(m.numpy(), num_classes=CLASSES, ignore_index=VOID)}
        for i, m in zip(images.chunk(parts), mask.chunk(parts), strict=True)
    ]
    tell_of_step(batches)
    return batches


def gradients(model: nn.Module, name: str, images: Tensor, mask: Tensor, parts: int) -> list[Tensor]:
    """Return the gradients of a step in so many batches, as Lightning adds them up, and the mean of their losses."""
    model.zero_grad()
    losses = []
    for number, batch in enumerate(batches_of(images, mask, parts)):
        waits = number < parts - 1 and isinstance(model, DistributedDataParallel)
        with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
            output = model(batch["image"])
            with part_of_step(batch["mask"], labels=batch["step_labels"], parts=parts):
                losses.append(OF_PIXELS[name](output, batch["mask"]))
            (losses[-1] / parts).backward()
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return [*found, torch.stack(losses).mean().detach()]


def whole(name: str) -> list[Tensor]:
    """Return the gradients and the loss of one batch of all images."""
    model = network()
    images, mask = images_and_mask(name)
    loss = OF_PIXELS[name](model(images), mask)
    loss.backward()
    return [*(parameter.grad for parameter in model.parameters() if parameter.grad is not None), loss.detach()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(tensor.abs().max() > 1e-3 for tensor in expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("name", OF_PIXELS)
def test_the_parts_of_a_step_have_the_gradient_and_the_loss_of_the_whole(name: str, parts: int) -> None:
    assert_same(gradients(network(), name, *images_and_mask(name), parts), whole(name))


def gradients_of_rank(rank: int) -> dict[str, list[Tensor]]:
    """Return what two ranks get, of which each has every other image and takes them in two batches."""
    model = DistributedDataParallel(network())
    return {
        name: gradients(model, name, *(tensor[rank::2].contiguous() for tensor in images_and_mask(name)), 2)
        for name in OF_PIXELS
    }


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return run_in_two_processes(gradients_of_rank, folder)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_two_processes_of_two_parts_have_the_gradient_of_the_whole(
    name: str, two_ranks: list[dict[str, list[Tensor]]]
) -> None:
    *expected, loss = whole(name)
    for result in two_ranks:
        assert_same(result[name][:-1], expected)
    assert_same([(two_ranks[0][name][-1] + two_ranks[1][name][-1]) / 2], [loss])


@pytest.mark.parametrize("name", OWN)
def test_other_losses_are_those_of_their_batch_alone(name: str) -> None:
    images, mask = images_and_mask()
    loss, logits = LOSSES[name](WEIGHTS), network()(images)[2:6].detach()
    part = mask[2:6].contiguous()
    with part_of_step(part, labels=torch.full((CLASSES,), 1000), parts=2):
        inside = loss(logits, part)
    assert inside == loss(logits, part)


def test_a_loss_of_another_mask_than_the_batchs_is_a_mean_of_its_own() -> None:
    images, mask = images_and_mask()
    logits, smaller = network()(images)[..., ::2, ::2], mask[..., ::2, ::2]
    loss = CrossEntropyLoss(ignore_index=VOID)
    with part_of_step(mask, labels=torch.full((CLASSES,), 1000), parts=2):
        inside = loss(logits, smaller)
    assert inside == loss(logits, smaller)
    with part_of_step(smaller, labels=torch.full((CLASSES,), 1000), parts=2):
        assert loss(logits, smaller) < inside


def test_masks_of_several_classes_a_pixel_are_means_of_their_own() -> None:
    images, _ = images_and_mask()
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (8, CLASSES, SIZE, SIZE)))
    loss, logits = FocalLoss(ignore_index=VOID, mode="multilabel"), network()(images)
    with part_of_step(mask, labels=torch.full((CLASSES,), 1000), parts=2):
        inside = loss(logits, mask)
    assert inside == loss(logits, mask)


def test_after_an_error_the_next_loss_is_that_of_a_whole_step() -> None:
    images, mask = images_and_mask()
    loss, logits = CrossEntropyLoss(ignore_index=VOID), network()(images)
    expected = loss(logits, mask)
    with (
        pytest.raises(RuntimeError, match="broken"),
        part_of_step(mask, labels=torch.full((CLASSES,), 9), parts=2),
    ):
        raise RuntimeError("broken")
    assert loss(logits, mask) == expected
