"""Is a fused step asked for where torch has it, and the same as the others?"""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from segtrain.optimizers import Lion, Muon
from segtrain.optimizers.fused import may_fuse


@pytest.mark.parametrize(
    ("make", "settings", "clips", "expected"),
    [
        (torch.optim.AdamW, {}, False, True),
        (torch.optim.Adam, {"fused": "auto"}, False, True),
        (torch.optim.SGD, {}, False, True),
        (torch.optim.AdamW, {"fused": False}, False, False),
        (torch.optim.AdamW, {"foreach": True}, False, False),
        (torch.optim.AdamW, {"differentiable": True}, False, False),
        (torch.optim.AdamW, {}, True, False),
        (torch.optim.NAdam, {}, False, False),
        (Lion, {}, False, False),
        (lambda params: torch.optim.AdamW(params), {}, False, False),
    ],
)
def test_it_is_asked_for_where_torch_has_it_and_the_user_wants_nothing_else(
    make: Any, settings: dict[str, Any], clips: bool, expected: bool
) -> None:
    assert may_fuse(make, settings, [nn.Parameter(torch.zeros(1))], clips=clips) is expected


def test_other_devices_and_types_have_no_fused_step() -> None:
    assert not may_fuse(torch.optim.AdamW, {}, [nn.Parameter(torch.zeros(1, device="meta"))], clips=False)
    half = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    assert not may_fuse(torch.optim.AdamW, {}, [nn.Parameter(torch.zeros(1)), half], clips=False)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
        (torch.optim.Adam, {"lr": 1e-2, "weight_decay": 0.1}),
        (torch.optim.SGD, {"lr": 1e-1, "momentum": 0.9, "weight_decay": 0.1}),
    ],
)
def test_the_fused_step_ends_where_the_plain_one_does(make: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    model = model.to(memory_format=torch.channels_last)
    ends = []
    for fused in (True, False):
        trained = copy.deepcopy(model)
        optimizer = make(trained.parameters(), **settings, fused=fused)
        for batch in torch.randn(10, 2, 3, 9, 9, generator=torch.Generator().manual_seed(1)):
            optimizer.zero_grad()
            trained(batch).square().mean().backward()
            optimizer.step()
        ends.append([p.detach() for p in trained.parameters()])
    torch.testing.assert_close(*ends, atol=1e-5, rtol=1e-4)


class CountReads(TorchDispatchMode):
    """Count how often a tensor's value is read back, as `.item()` does."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("make", "reads"),
    [
        (lambda p: torch.optim.AdamW(p, fused=True), 0),
        (lambda p: torch.optim.AdamW(p, fused=False), 3),  # so the others' zeros mean something
        (lambda p: torch.optim.SGD(p, momentum=0.9, fused=True), 0),
        (Lion, 0),
        (Muon, 0),
    ],
)
def test_fused_steps_and_ours_read_nothing_back(make: Any, reads: int) -> None:
    parameters = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)] + [nn.Parameter(torch.ones(3))]
    optimizer = make(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with CountReads() as mode:
        optimizer.step()
    assert mode.count == reads
