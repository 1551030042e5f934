"""Is a fused step asked for where torch has it, and the same as the others?"""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from segtrain.optimizers import Lion
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
