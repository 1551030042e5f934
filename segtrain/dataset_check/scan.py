"""Read every sample of every split, in as many processes as there are cores."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from segtrain.data.loader import start_worker
from segtrain.data.source import Source
from segtrain.dataset_check.record import Record
from segtrain.dataset_check.sample import Reading, scan_sample
from segtrain.errors import UserError
from segtrain.hardware import num_cores


@dataclass(frozen=True)
class Effort:
    """What a scan cost.

    Args:
        seconds: from the start of the processes to the end of the last.
        cpu_seconds: of all of them together.
        cores: that this process may use.
    """

    seconds: float
    cpu_seconds: float
    cores: int

    @property
    def busy(self) -> float:
        """The share of the cores' time that was used, 1 at most: processor time comes in ticks."""
        return min(self.cpu_seconds / max(self.seconds * self.cores, 1e-9), 1.0)


class _Tasks(Dataset[Record]):
    def __init__(self, sources: Mapping[str, Source], reading: Reading) -> None:
        self.sources, self.reading = sources, reading
        self.places = [(split, index) for split, source in sources.items() for index in range(len(source))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Record:
        split, index = self.places[number]
        return scan_sample(self.sources[split], split, index, reading=self.reading)


def scan(sources: Mapping[str, Source], *, reading: Reading, workers: int | None = None) -> tuple[list[Record], Effort]:
    """Return the record of every sample, split by split in their order, and what that cost.

    Args:
        sources: {split: its samples}.
        reading: how files are read.
        workers: processes; None for one a core, 0 for none beside this.

    Raises:
        UserError: if a process is killed.
    """
    tasks, cores = _Tasks(sources, reading), num_cores()
    if not len(tasks):
        return [], Effort(0.0, 0.0, cores)
    count = min(cores if workers is None else workers, len(tasks))
    started, used = time.perf_counter(), _cpu_seconds()
    try:
        records = _collect(tasks, count)
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise UserError(
            f"workers: one of the {count} processes that read files was killed, as happens where memory is short; "
            "give fewer (workers=1), or workers=0 to see which file it is"
        ) from error
    effort = Effort(time.perf_counter() - started, _cpu_seconds() - used, cores)
    place = {split: number for number, split in enumerate(sources)}
    return sorted(records, key=lambda record: (place[record.split], record.index)), effort


def _collect(tasks: _Tasks, workers: int) -> list[Record]:
    loader = DataLoader(
        tasks,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        in_order=False,  # one large image holds nobody up
        worker_init_fn=start_worker,
    )
    records = []
    with _bar(len(tasks)) as advance:
        for record in loader:
            records.append(record)
            advance()
    return records


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """Show a bar on stderr where that is a terminal; yield what moves it by one."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda: progress.advance(task)


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _as_it_is(record: Any) -> Any:
    """Keep the loader from making tensors."""
    return record
