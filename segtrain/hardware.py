"""What this machine can do, and the settings that follow."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segtrain.clusters.slurm import this_task
from segtrain.deterministic import use_deterministic

CORES = "SEGTRAIN_CORES"  # how many of the machine's cores are this process's: set for a search's trials


def choose_precision(accelerator: str) -> str:
    """Return bf16 mixed precision where the hardware multiplies bf16, else float32.

    Args:
        accelerator: the Trainer's: auto, cpu, gpu, cuda or mps.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available() and cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def precision_of(trainer: dict[str, Any]) -> str:
    """Return the precision that a Trainer's arguments ask for, or the best of its device for "auto"."""
    precision = str(trainer.get("precision") or "32-true")
    return choose_precision(trainer.get("accelerator", "auto")) if precision == "auto" else precision


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the CPU has bf16 matrix instructions (AVX512-BF16 or AMX); without them bf16 is slower."""
    if not cpuinfo.is_file():
        return False
    flags = cpuinfo.read_text().split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def set_backends(deterministic: str) -> None:
    """Allow TF32 and let cuDNN choose the fastest kernels, unless results are to be exact: then deterministic ones."""
    exact = deterministic == "exact"
    use_deterministic(exact)  # off too: a job before this one may have set it
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact


def find_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is the first GPU, else the CPU.

    Raises:
        ValueError: if there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {name!r} is not on this machine; use auto or cpu") from error
    return device


def num_cores(environment: Mapping[str, str] = os.environ, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that this process may use.

    Those it is bound to, a container's share of time, its share as one of SLURM's tasks on the machine or as one of a
    search's trials: the least of them.
    """
    cores = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    task = this_task(environment)
    cores += [] if task is None or task.cores is None else [task.cores]
    cores += [int(environment[CORES])] if environment.get(CORES, "").isdigit() else []
    quota = cpu_quota(cgroup)
    return max(1, min(cores if quota is None else [*cores, math.ceil(quota)]))


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores' time this container may use; None without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):  # version 1
        try:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes of memory that can still be had: of the machine, or of this container; None if not known."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        found = []
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        free = int(parts.get("inactive_file", 0))  # of files that were read, given back when needed
        found += [int(limit) - int(used) + free] if limit != "max" else []
    except (OSError, ValueError):
        pass
    return min(found, default=None)
