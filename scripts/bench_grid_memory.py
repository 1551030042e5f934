"""Does the memory of a grid's process grow from job to job? Resident memory, threads and objects left after each.

python scripts/bench_grid_memory.py [--jobs 12] [key=value ...]     # of the train command
"""

import argparse
import gc
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from segtrain.commands.train import main as train
from segtrain.grid import fresh
from segtrain.launch import launch

KINDS = ("Trainer", "SegmentationModule", "SegmentationData", "DataLoader", "SummaryWriter", "DictConfig")


def main() -> None:
    """Run the grid, and print a line after each of its jobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.usage = "%(prog)s [-h] [--jobs JOBS] [key=value ...]     # of the train command"
    parser.add_argument("--jobs", type=int, default=12, help="with a seed each (default: 12)")
    known, overrides = parser.parse_known_args()
    forget = fresh.forget

    def forget_and_print() -> None:
        forget()
        left = count_objects()
        lines.append(
            f"after job {len(lines):<3} {resident():8.1f} MiB  {threading.active_count():3} threads  "
            + "  ".join(f"{name} {left[name]}" for name in KINDS)
        )

    lines: list[str] = []
    fresh.forget = forget_and_print
    seeds = ",".join(str(seed) for seed in range(known.jobs))
    with TemporaryDirectory() as folder:
        small = ["trainer=cpu", "trainer.max_epochs=1", "dataset.fraction=0.1", "loader.num_workers=0"]
        sys.argv = ["segtrain train", "-m", *small, f"seed={seeds}", f"paths.output={folder}", *overrides]
        try:
            launch(train, "train")
        finally:
            print("\n".join(lines))


def resident() -> float:
    """Return this process's resident memory in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def count_objects() -> dict[str, int]:
    """Return how many objects of each of these classes are alive."""
    names = [type(thing).__name__ for thing in gc.get_objects()]
    return {name: names.count(name) for name in KINDS}


if __name__ == "__main__":
    main()
