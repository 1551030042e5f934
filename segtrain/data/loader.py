"""How do batches come out of the processes that read them, and how many of those are there?"""

import itertools
import signal
import time
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from segtrain.clusters.slurm import this_task
from segtrain.data.steps import tell_of_step
from segtrain.hardware import num_cores


class Loader(DataLoader[dict[str, Any]]):
    """A loader that adds up how long its batches were waited for, and takes those of an optimizer step together."""

    waited = 0.0  # seconds since the iteration began
    accumulation = 1  # batches of a step, each of which then knows the labels of all

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        self.waited = 0.0
        batches = super().__iter__()
        while True:
            started = time.perf_counter()
            step = deque(itertools.islice(batches, self.accumulation))
            self.waited += time.perf_counter() - started
            if not step:
                return
            if self.accumulation > 1:
                tell_of_step(step, pin=self.pin_memory)
            while step:
                yield step.popleft()


def choose_workers() -> int:
    """Return a number of workers per device for this machine: its cores shared by the devices, at most 8."""
    task = this_task()
    shared = task is not None and task.count > 1  # by SLURM already
    devices = max(1, torch.cuda.device_count() if torch.cuda.is_available() and not shared else 1)
    return max(1, min(8, num_cores() // devices - 1))


def _obey_the_next(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def start_worker(worker: int) -> None:
    """Keep a process that loads samples to one thread, and from ending before the one it loads for.

    Ctrl-C, `timeout` and `scancel --full` signal all processes of a run, which needs its samples for the step that it
    ends with. The second SIGTERM is obeyed: it is of the run that has no more use for this process.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _obey_the_next)
    cv2.setNumThreads(0)  # one process a core is enough
    torch.set_num_threads(1)
