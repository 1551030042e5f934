"""Do several processes get the gradient of one on the joined batch?"""

from pathlib import Path
from typing import Any

import pytest
import torch
from every_loss import LOSSES, VOID, WEIGHTS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import run_in_two_processes

# how much of each rank's half of the joined batch is void
RANKS_VOID = {"even": (0.3, 0.3), "uneven": (0.9, 0.0), "one rank is all void": (1.0, 0.2), "all void": (1.0, 1.0)}
# these look for the hardest pixels, or sort, on each rank
OWN = ("ohem", "lovasz")
EXACT = [name for name in LOSSES if name not in OWN]


def joined_batch(case: str) -> tuple[Tensor, Tensor]:
    """Return images (4, 3, 6, 6) and masks, two for each rank."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(4, 3, 6, 6, generator=generator)
    mask = torch.randint(0, 4, (4, 6, 6), generator=generator)
    mask[:2][mask[:2] == 3] = 1  # a class that only one rank has
    for rank, void in enumerate(RANKS_VOID[case]):
        half = mask[2 * rank : 2 * rank + 2]
        half[torch.rand(half.shape, generator=generator) < void] = VOID
    return image, mask


def gradients(model: nn.Module, image: Tensor, mask: Tensor, name: str) -> list[Tensor]:
    """Return the gradients of a loss with respect to the parameters, and the loss."""
    model.zero_grad()
    loss = LOSSES[name](WEIGHTS)(model(image), mask)
    loss.backward()
    found = [parameter.grad for parameter in model.parameters()]
    return [*(gradient.clone() for gradient in found if gradient is not None), loss.detach()]


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
        for name in LOSSES:
            results[f"{case}/{name}"] = gradients(model, image, mask, name)
            with torch.no_grad():
                results[f"{case}/{name}/evaluation"] = LOSSES[name](WEIGHTS)(model(image), mask)
    return results


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return run_in_two_processes(gradients_of_rank, folder)


@pytest.mark.parametrize("case", RANKS_VOID)
@pytest.mark.parametrize("name", EXACT)
def test_gradients_of_two_processes_are_those_of_one_on_the_joined_batch(
    case: str, name: str, two_ranks: list[dict[str, Any]]
) -> None:
    *expected, loss = gradients(network(), *joined_batch(case), name)
    for result in two_ranks:
        torch.testing.assert_close(result[f"{case}/{name}"][:-1], expected, rtol=1e-5, atol=1e-7)
    # what Lightning logs: the mean of the ranks' losses
    mean = sum(result[f"{case}/{name}"][-1] for result in two_ranks) / 2
    torch.testing.assert_close(mean, loss, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OWN)
def test_losses_that_are_each_ranks_own_give_finite_gradients_that_ranks_share(
    name: str, two_ranks: list[dict[str, Any]]
) -> None:
    for case in RANKS_VOID:
        first, second = (result[f"{case}/{name}"][:-1] for result in two_ranks)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert all(gradient.isfinite().all() for gradient in first)
        assert any(gradient.any() for gradient in first) == (case != "all void")


@pytest.mark.parametrize("name", LOSSES)
def test_evaluation_of_several_processes_gives_each_the_loss_of_its_own_batch(
    name: str, two_ranks: list[dict[str, Any]]
) -> None:
    image, mask = joined_batch("uneven")
    for rank, result in enumerate(two_ranks):
        half = slice(2 * rank, 2 * rank + 2)
        expected = LOSSES[name](WEIGHTS)(network()(image[half]), mask[half])
        torch.testing.assert_close(result[f"uneven/{name}/evaluation"], expected)
