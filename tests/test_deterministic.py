"""Is `deterministic=exact` a switch that goes both ways, and an operation that it refuses a sentence?"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from determinism import Refused, exact
from torch import nn

from segtrain.deterministic import explain
from segtrain.errors import UserError
from segtrain.hardware import set_backends
from segtrain.metrics.confusion import confusion_matrix
from segtrain.optimizers import Lion, Muon
from segtrain.training import fit


def test_a_job_after_an_exact_one_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        for level in ("exact", "seeded", "exact", "none"):
            set_backends(level)
            assert torch.are_deterministic_algorithms_enabled() is (level == "exact")
            assert torch.backends.cudnn.allow_tf32 is (level != "exact")
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")  # what cuBLAS's documentation asks for
    finally:
        set_backends("seeded")
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_an_operation_that_torch_refuses_is_a_sentence() -> None:
    def unpool(*arguments: Any, **more: Any) -> None:
        F.max_unpool2d(*F.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True), 2)

    with exact(), pytest.raises(UserError, match=r"no deterministic kernel for max_unpooling2d.*deterministic=seeded"):
        fit(SimpleNamespace(fit=unpool), None, None, None, Path())  # type: ignore[arg-type]
    assert explain(RuntimeError("something else")) is None


@pytest.mark.parametrize("make", [Lion, Muon, torch.optim.SGD])
def test_an_optimizer_needs_no_operation_without_a_deterministic_kernel(make: Callable[..., Any]) -> None:
    parameters = [nn.Parameter(torch.empty(*shape, device="meta")) for shape in ((8, 3, 3, 3), (8,))]
    optimizer = make(parameters, lr=0.1)
    for p in parameters:
        p.grad = torch.empty_like(p)
    with exact(), Refused() as refused:
        optimizer.step()
    assert not refused.names


def test_scores_need_no_operation_without_a_deterministic_kernel() -> None:
    prediction, mask = torch.randint(0, 3, (2, 2, 8, 8))
    with exact(), Refused() as refused:
        confusion_matrix(prediction, mask, num_classes=3, ignore_index=255)
    assert not refused.names


@pytest.mark.slow
def test_the_bench_measures_each_level_beside_none() -> None:
    script = Path(__file__).parent.parent / "scripts" / "bench_deterministic.py"
    small = ("loader.batch_size=2", "dataset.crop_size=64", "model.encoder.base_channels=4", "loader.num_workers=0")
    command = [sys.executable, str(script), "--device", "cpu", "--rounds", "1", "--steps", "5", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, title, *ratios = done.stdout.splitlines()
    assert re.fullmatch(r"round 0: none [\d.]+ ms, \d+ MiB, seeded [\d.]+ ms, \d+ MiB, exact [\d.]+ ms, \d+ MiB", first)
    assert title.startswith("unet on cpu, ")
    assert [line.split(":")[0].strip() for line in ratios] == ["seeded", "exact"]
