"""Run a function in two gloo processes on the CPU and collect what each returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD_SIZE = 2


def run_in_two_processes(function: Callable[[int], Any], folder: Path) -> list[Any]:
    """Call function(rank) in two processes that can talk to each other; return both results, by rank.

    Args:
        function: of a module's top level; returns tensors or plain values.
        folder: where the processes meet.
    """
    mp.spawn(_worker, (function, str(folder)), nprocs=WORLD_SIZE)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD_SIZE)]


def _worker(rank: int, function: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD_SIZE)
    try:
        torch.save(function(rank), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
