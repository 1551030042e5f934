"""Does Muon make hidden weights' steps orthogonal, and is it AdamW for everything else?"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segtrain.optimizers import Muon
from segtrain.optimizers.muon import orthogonalize


def newton_schulz(matrix: np.ndarray, steps: int) -> np.ndarray:
    """Return the post's iteration in float64: a X + b (X X^T) X + c (X X^T)^2 X."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def steps(optimizer: Any, parameters: list[nn.Parameter], gradients: list[list[np.ndarray]]) -> None:
    for drawn in gradients:
        for parameter, gradient in zip(parameters, drawn, strict=True):
            parameter.grad = torch.from_numpy(gradient).to(parameter.dtype)
        optimizer.step()


def drawn(*shapes: tuple[int, ...], count: int = 5) -> tuple[list[nn.Parameter], list[list[np.ndarray]]]:
    """Return parameters, and gradients for a number of steps."""
    rng = np.random.default_rng(0)
    parameters = [nn.Parameter(torch.from_numpy(rng.normal(size=shape)).float()) for shape in shapes]
    return parameters, [[rng.normal(size=shape) for shape in shapes] for _ in range(count)]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_the_iteration_is_the_posts_and_leaves_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrices = np.random.default_rng(0).normal(size=(3, *shape))
    found = orthogonalize(torch.from_numpy(matrices), steps=5).numpy()
    for matrix, ours in zip(matrices, found, strict=True):
        np.testing.assert_allclose(ours, newton_schulz(matrix, 5), atol=1e-9)
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ ours @ right.T  # in the matrix's own singular vectors the result is diagonal
        np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-6)
        assert (np.diag(inner) > 0.3).all()
        assert (np.diag(inner) < 1.3).all()


def test_a_gradient_of_zero_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(3, 2))
    weight.grad = torch.zeros(3, 2)
    Muon([weight], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(weight.detach(), torch.ones(3, 2))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_a_convolutions_steps_are_those_of_its_matrix_by_the_formulas(nesterov: bool, decay: float) -> None:
    (weight,), gradients = drawn((4, 3, 3, 3))
    expected, momentum = weight.detach().numpy().reshape(4, 27).astype(float), np.zeros((4, 27))
    optimizer = Muon([weight], lr=0.02, weight_decay=decay, momentum=0.9, nesterov=nesterov, ns_dtype="float32")
    steps(optimizer, [weight], gradients)
    for (gradient,) in gradients:
        flat = gradient.reshape(4, 27)
        momentum = 0.9 * momentum + 0.1 * flat
        update = newton_schulz(0.1 * flat + 0.9 * momentum if nesterov else momentum, 5)
        expected = expected * (1 - 0.02 * decay) - 0.02 * 0.2 * np.sqrt(27) * update
    np.testing.assert_allclose(weight.detach().numpy().reshape(4, 27), expected, atol=2e-5)


def test_matrices_of_one_shape_and_of_others_are_updated_as_by_torchs_muon() -> None:
    ours, gradients = drawn((8, 6), (8, 6), (6, 8), (3, 5))
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    steps(Muon(ours, lr=0.01, weight_decay=0.1), ours, gradients)
    steps(torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), theirs, gradients)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=2e-3, rtol=0)  # bfloat16


def test_vectors_and_what_is_not_hidden_are_updated_as_by_torchs_adamw() -> None:
    ours, gradients = drawn((7,), (4, 3), (2, 3, 3, 3))
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    groups = [{"params": [ours[0]]}, {"params": ours[1:], "hidden": False, "lr": 0.003}]
    reference = [{"params": [theirs[0]]}, {"params": theirs[1:], "lr": 0.003}]
    settings: Any = {"lr": 0.02, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    steps(Muon(groups, **settings), ours, gradients)
    steps(torch.optim.AdamW(reference, **settings), theirs, gradients)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_parameter_that_gets_its_first_gradient_late_counts_its_own_steps() -> None:
    ours, gradients = drawn((3,), (3,), count=4)
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    for optimizer, parameters in (
        (Muon(ours, lr=0.02, weight_decay=0.0), ours),
        (torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.0, betas=(0.9, 0.95)), theirs),
    ):
        for number, step in enumerate(gradients):
            for index, gradient in enumerate(step):
                parameters[index].grad = torch.from_numpy(gradient).float() if number >= 2 * index else None
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1))


def train(model: nn.Module, optimizer: Muon, batches: Tensor) -> None:
    for batch in batches:
        optimizer.zero_grad()
        (model(batch) - batch.mean()).square().mean().backward()
        optimizer.step()


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    batches = torch.randn(6, 2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    model = network()
    optimizer = Muon(model.parameters(), lr=1e-2)
    train(model, optimizer, batches[:3])
    other = copy.deepcopy(model)
    resumed = Muon(other.parameters(), lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, batches[3:])
    train(other, resumed, batches[3:])
    for mine, reference in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(mine, reference)


def test_the_closure_is_called_with_gradients_and_its_value_returned() -> None:
    weight = nn.Parameter(torch.eye(2))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert weight.diag().max() < 1


def test_it_finds_the_matrix_of_a_linear_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, inputs = torch.randn(4, 6, generator=generator), torch.randn(64, 6, generator=generator)
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = Muon(model.parameters(), lr=0.3, weight_decay=0.0)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * (1 - step / 150)
        optimizer.zero_grad()
        loss = (model(inputs) - inputs @ truth.T - 0.5).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": -1.0}, r"^lr: -1\.0 is negative"),
        ({"momentum": 1.0}, r"^momentum: 1\.0 is not in \[0, 1\)"),
        ({"ns_steps": 0}, r"^ns_steps: 0 iterations; give 1 or more"),
        ({"ns_dtype": "float16"}, r"^ns_dtype: 'float16' is not bfloat16 or float32"),
        ({"betas": (0.9, 1.0)}, r"^betas: "),
    ],
)
def test_values_outside_their_ranges_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Muon([nn.Parameter(torch.zeros(1))], **settings)
