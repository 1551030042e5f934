"""Are latency, memory, parameters and operations of a finished run what they are said to be?"""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import tiny_module
from torch import Tensor, nn

from segtrain import resident
from segtrain.cost import COSTS, FEWEST, MOST, costs, median_ms, peak_memory
from segtrain.grid.fresh import fresh
from segtrain.models.unet import UNet
from segtrain.resident import peak_resident

CPU = torch.device("cpu")


PEAKS = """
import os
from pathlib import Path
from segtrain.resident import begin_peak, peak_resident
begin_peak()
print(peak_resident())
held = b"1" * 64 * 2**20
print(peak_resident())
print(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
del held
begin_peak()
print(peak_resident())
"""


class Sleeps(nn.Module):
    """A 1x1 convolution that takes a known time, longer in training."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.layer = nn.Conv2d(3, 2, 1)
        self.seen: list[tuple[tuple[int, ...], torch.dtype]] = []

    def forward(self, image: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        time.sleep(self.seconds * (10 if self.training else 1))
        if image.device.type != "meta":
            self.seen.append((tuple(image.shape), image.dtype))
        logits: Tensor = self.layer(image)
        return logits


def test_the_latency_is_that_of_one_image_in_evaluation() -> None:
    model = Sleeps(0.02)
    values = costs(tiny_module(model), CPU, size=16)
    assert 20 <= values["perf/latency_ms"] < 150
    assert {shape for shape, _ in model.seen} == {(1, 3, 16, 16)}
    assert 2 * FEWEST <= len(model.seen) <= FEWEST + MOST
    assert values["perf/parameters"] == 3 * 2 + 2
    assert values["perf/gflops"] == pytest.approx(2 * 3 * 2 * 16 * 16 / 1e9)  # a multiply-add is two


def test_a_slow_network_is_measured_by_few_images() -> None:
    model = Sleeps(0.4)
    began = time.perf_counter()
    costs(tiny_module(model), CPU, size=16)
    assert len(model.seen) == 2 * FEWEST
    assert time.perf_counter() - began < 10


def test_the_latency_is_a_median_that_single_slow_images_do_not_move() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        time.sleep(0.2 if len(calls) <= FEWEST or len(calls) == FEWEST + 2 else 0.01)

    assert 10 <= median_ms(call, CPU) < 150


def test_the_runs_precision_is_measured() -> None:
    seen: list[torch.dtype] = []
    model = Sleeps(0)
    model.layer.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    costs(tiny_module(model), CPU, size=16, precision=lambda: torch.autocast("cpu", torch.bfloat16))
    assert torch.bfloat16 in seen


@pytest.mark.skipif(not resident.FORGET.exists(), reason="needs Linux's /proc")
def test_the_peak_of_memory_is_that_of_the_process() -> None:
    # in a process of its own: what other tests leave to the garbage collector would be freed in between
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    before, peak, now, after = map(float, done.stdout.split())
    assert 60 <= peak - before < 80
    assert peak == pytest.approx(now, abs=8)
    assert after == pytest.approx(before, abs=8)
    assert peak_memory(CPU) == pytest.approx(peak_resident(), abs=8)


@pytest.mark.skipif(not resident.FORGET.exists(), reason="needs Linux's /proc")
def test_a_jobs_peak_of_memory_is_not_that_of_the_job_before() -> None:
    peaks = []
    for size in (256 * 2**20, 1):
        with fresh():
            held = b"\1" * size
            del held
            peaks.append(peak_resident() or 0)
    assert peaks[0] - peaks[1] > 200


def test_a_peak_that_may_be_another_jobs_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_resident() is not None
    monkeypatch.setattr(resident, "FORGET", tmp_path / "no" / "proc")
    monkeypatch.setattr(resident, "_OF_ALL", [])
    with fresh():
        assert peak_memory(CPU) is None
        assert costs(tiny_module(Sleeps(0)), CPU, size=16).keys() == COSTS.keys() - {"perf/peak_memory_mb"}


def test_the_latency_waits_for_any_device_that_works_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    median_ms(lambda: None, torch.device("mps"))
    assert set(waited) == {torch.device("mps")}
    waited.clear()
    median_ms(lambda: None, CPU)
    assert waited == []


def test_a_network_that_needs_data_has_no_count_of_operations() -> None:
    class NeedsData(Sleeps):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) * float(image.sum() + 1)

    values = costs(tiny_module(NeedsData(0)), CPU, size=16)
    assert values.keys() == COSTS.keys() - {"perf/gflops"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_peak_is_what_torch_allocated_and_the_latency_waits_for_it() -> None:
    device = torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats()
    held = torch.ones(256 * 2**20, dtype=torch.uint8, device=device)
    wide = costs(tiny_module(UNet(num_classes=2)), device, size=512)
    small = costs(tiny_module(UNet(num_classes=2)), device, size=64)
    assert wide["perf/peak_memory_mb"] >= held.numel() / 2**20
    assert wide["perf/latency_ms"] > small["perf/latency_ms"]
