"""What does a trained network cost: time and memory, parameters, operations?"""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from segtrain.module import SegmentationModule
from segtrain.resident import peak_resident
from segtrain.sharding.parts import is_sharded
from segtrain.summary import count_flops

COSTS = {
    "perf/latency_ms": "median milliseconds from one uint8 image of the crop's size on the device to its logits",
    "perf/peak_memory_mb": "MiB: what torch allocated at most on this GPU, else what the process had in memory",
    "perf/parameters": "of the network",
    "perf/gflops": "10^9 floating-point operations (two a multiply-add) of an image of the crop's size",
}
SECONDS = 1.0  # of measuring at most, once `FEWEST` are done
FEWEST, MOST = 3, 30  # images


def costs(
    module: SegmentationModule,
    device: torch.device,
    *,
    size: int,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, float]:
    """Return the `COSTS` of a network; what cannot be measured is left out.

    The latency is that of evaluation: normalisation, network and up-sampling of one image, in the run's precision,
    without torch.compile. The memory is the peak of this process, or of the job of a grid that it runs, so it is the
    training's.

    Args:
        module: its network is in evaluation mode afterwards.
        device: where the latency is measured.
        size: side of the image in pixels.
        precision: the run's autocast.
    """
    peak = peak_memory(device)
    values: dict[str, float] = {} if peak is None else {"perf/peak_memory_mb": peak}
    if is_sharded(module.model):
        return values  # a part of it is on other devices
    values["perf/parameters"] = sum(parameter.numel() for parameter in module.model.parameters())
    channels = module.normalize.mean.numel()
    image = torch.zeros(1, channels, size, size, dtype=torch.uint8, device=device)
    module = module.to(device).eval()
    with torch.inference_mode(), precision(), torch.compiler.set_stance("force_eager"):
        values["perf/latency_ms"] = median_ms(lambda: module.predict_logits(image), device)
    try:
        values["perf/gflops"] = count_flops(module.model, channels, size) / 1e9
    except Exception:  # as in `describe_model`: a user's network may not run without data
        return values
    return values


def median_ms(call: Callable[[], object], device: torch.device) -> float:
    """Return the median time of a call in milliseconds, after the first ones, which warm up."""
    times: list[float] = []
    begun = time.perf_counter()
    for _ in range(FEWEST):
        call()
    while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() - begun < SECONDS):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def peak_memory(device: torch.device) -> float | None:
    """Return the most memory of this process so far in MiB: torch's on a GPU, else what was resident, where known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident()


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # CUDA's, and Apple's
