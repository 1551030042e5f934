"""Does Lion take the paper's steps?"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segtrain.optimizers import Lion


def reference(weights: np.ndarray, gradients: list[np.ndarray], *, lr: float, betas: Any, decay: float) -> np.ndarray:
    """Return the weights after algorithm 2 of the paper, one element at a time."""
    out = weights.copy()
    for index in np.ndindex(weights.shape):
        weight, momentum = float(weights[index]), 0.0
        for gradient in gradients:
            g = float(gradient[index])
            update = np.sign(betas[0] * momentum + (1 - betas[0]) * g)
            weight -= lr * (update + decay * weight)
            momentum = betas[1] * momentum + (1 - betas[1]) * g
        out[index] = weight
    return out


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.5, 0.7)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_algorithm_2(betas: tuple[float, float], decay: float) -> None:
    rng = np.random.default_rng(0)
    parameters = [nn.Parameter(torch.from_numpy(rng.normal(size=shape))) for shape in ((3, 2, 3, 3), (4,))]
    starts = [p.detach().numpy().copy() for p in parameters]
    optimizer = Lion(parameters, lr=0.01, betas=betas, weight_decay=decay)
    gradients = [[rng.normal(size=p.shape) for _ in range(7)] for p in parameters]
    for step in range(7):
        for p, drawn in zip(parameters, gradients, strict=True):
            p.grad = torch.from_numpy(drawn[step].copy())
        optimizer.step()
    for p, start, drawn in zip(parameters, starts, gradients, strict=True):
        expected = reference(start, drawn, lr=0.01, betas=betas, decay=decay)
        np.testing.assert_allclose(p.detach().numpy(), expected, atol=1e-12)


def test_groups_have_their_own_settings_and_parameters_without_a_gradient_stay() -> None:
    fast, slow, idle = (nn.Parameter(torch.ones(2)) for _ in range(3))
    groups = [{"params": [fast, idle]}, {"params": [slow], "lr": 0.01, "weight_decay": 0.0}]
    optimizer = Lion(groups, lr=0.1, weight_decay=0.5)
    fast.grad, slow.grad = torch.tensor([3.0, -3.0]), torch.tensor([1e-3, 0.0])
    optimizer.step()
    torch.testing.assert_close(fast.detach(), torch.tensor([1 - 0.1 * 1.5, 1 - 0.1 * (0.5 - 1)]))
    torch.testing.assert_close(slow.detach(), torch.tensor([0.99, 1.0]))
    assert torch.equal(idle.detach(), torch.ones(2))
    assert idle not in optimizer.state


def test_the_closure_is_called_with_gradients_and_its_value_returned() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = Lion([weight], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert weight.item() == pytest.approx(1.9)


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(8, 5, 4)

    def train(model: nn.Module, optimizer: Lion, batches: Tensor) -> None:
        for batch in batches:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()

    model = nn.Linear(4, 3)
    optimizer = Lion(model.parameters(), lr=1e-2, weight_decay=0.1)
    train(model, optimizer, inputs[:4])
    other = copy.deepcopy(model)
    resumed = Lion(other.parameters(), lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, inputs[4:])
    train(other, resumed, inputs[4:])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_it_finds_a_minimum_to_the_size_of_its_steps() -> None:
    target = torch.tensor([0.3, -0.7, 0.0])
    weight = nn.Parameter(torch.zeros(3))
    optimizer = Lion([weight], lr=0.01)
    for _ in range(200):
        weight.grad = (weight - target).detach()
        optimizer.step()
    assert (weight - target).abs().max() < 0.1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": -1.0}, r"^lr: -1\.0 is negative"),
        ({"weight_decay": -0.1}, r"^weight_decay: -0\.1 is negative"),
        ({"betas": (0.9, 1.0)}, r"^betas: \[0\.9, 1\.0\] is not two numbers in \[0, 1\)"),
        ({"betas": (0.9,)}, r"^betas: \[0\.9\] is not two numbers"),
    ],
)
def test_values_outside_their_ranges_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Lion([nn.Parameter(torch.zeros(1))], **settings)
