"""Does a search find better settings than the default, and than random draws of the same number of trials?

Searches the built-in images by TPE with the median pruner and at random without pruning, trains the default beside
them, trains all three settings again with seeds that no search has seen, and scores each on the test split, once:

    python scripts/compare_search.py --output outputs/compare_search
    python scripts/compare_search.py --output /tmp/short --trials 3 --epochs 1 --seeds 1 dataset.fraction=0.1

Further words are overrides of every training. Writes `table.md` and `table.csv` there.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from segtrain.config.locate import config_dir
from segtrain.sweep.written_space import parse_space

MONITOR = "val/miou"
SEARCHES = {
    "TPE, median pruner": ("study=tpe", "sweep.sampler=tpe", "sweep.pruner=median", "sweep.warmup=2"),
    "random, no pruning": ("study=random", "sweep.sampler=random", "sweep.pruner=none"),
}


@dataclass
class Row:
    """What came of a setting.

    Attributes:
        name: of the search, or the default.
        search: validation mIoU of the setting on the seed of the searches: for them the highest of all trials.
        fresh: the same with seeds that no search has seen.
        test: mIoU of the test split, of the first of those seeds.
        trials: how many there were, by how they ended.
        minutes: wall time of the search, or of the training.
        overrides: that make the setting.
    """

    name: str
    search: float
    trials: dict[str, int]
    minutes: float
    overrides: list[str]
    fresh: list[float] = field(default_factory=list)
    test: float = float("nan")

    def cells(self) -> dict[str, str]:
        """Return what the table shows."""
        spread = f" ± {statistics.stdev(self.fresh):.4f}" if len(self.fresh) > 1 else ""
        return {
            "setting": self.name,
            "val mIoU in the search": f"{self.search:.4f}",
            f"val mIoU, {len(self.fresh)} other seeds": f"{statistics.mean(self.fresh):.4f}{spread}",
            "test mIoU": f"{self.test:.4f}",
            "trials": ", ".join(f"{count} {state}" for state, count in self.trials.items()),
            "minutes": f"{self.minutes:.1f}",
            "overrides": " ".join(self.overrides),
        }


def segtrain(*arguments: str) -> float:
    """Run a segtrain command whose output is shown; return its wall time in minutes.

    Raises:
        SystemExit: if it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SEGTRAIN_RUN_ID"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "segtrain", *arguments], env=environment)
    if done.returncode:
        sys.exit(f"segtrain {' '.join(arguments)} ended with {done.returncode}")
    return (time.monotonic() - began) / 60


def read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def train(run: Path, *overrides: str) -> tuple[float, float]:
    """Return the validation score of a training, and its minutes."""
    minutes = segtrain("train", *overrides, "test=false", f"hydra.run.dir={run}")
    return float(read(run / "metrics.json")[MONITOR]), minutes


def search(name: str, output: Path, common: list[str], *, trials: int, space: dict[str, Any]) -> Row:
    """Search, and return the best of the trials that are complete."""
    own = SEARCHES[name]
    minutes = segtrain("sweep", *common, *own, f"n_trials={trials}", "seed=0", f"paths.output={output}")
    folder = output / "sweeps" / own[0].removeprefix("study=") / "trials"
    records = [read(path) for path in sorted(folder.glob("*/trial.json"))]
    complete = [record for record in records if record["state"] == "complete"]
    best = max(complete, key=lambda record: record["values"][MONITOR])
    overrides = parse_space(space).overrides(best["parameters"])
    counts = dict(Counter(record["state"] for record in records))
    return Row(name, best["values"][MONITOR], counts, minutes, overrides)


def compare(output: Path, common: list[str], *, trials: int, seeds: int, space: dict[str, Any]) -> list[Row]:
    """Return a row for the default and for each search."""
    score, minutes = train(output / "default", *common, "seed=0")
    rows = [Row("default", score, {"complete": 1}, minutes, [])]
    rows += [search(name, output, common, trials=trials, space=space) for name in SEARCHES]
    for number, row in enumerate(rows):
        for seed in range(1, seeds + 1):
            run = output / "again" / f"{number}-seed-{seed}"
            row.fresh.append(train(run, *common, *row.overrides, f"seed={seed}")[0])
        tested = output / "again" / f"{number}-seed-1"
        segtrain("eval", f"checkpoint={tested / 'checkpoints' / 'best.ckpt'}", "split=test")
        row.test = float(read(tested / "eval" / "test" / "metrics.json")["test/miou"])
    return rows


def write(rows: list[Row], output: Path) -> str:
    """Write both tables; return the one for people."""
    cells = [row.cells() for row in rows]
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(asdict(rows[0])))
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    lines = [list(cells[0]), ["---"] * len(cells[0]), *(list(row.values()) for row in cells)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    (output / "table.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--trials", type=int, default=20, help="of each search")
    parser.add_argument("--epochs", type=int, default=8, help="of each training")
    parser.add_argument("--seeds", type=int, default=2, help="that no search has seen")
    given, overrides = parser.parse_known_args()
    if given.output.exists() and any(given.output.iterdir()):
        parser.error(f"--output: {given.output} is not empty")
    given.output.mkdir(parents=True, exist_ok=True)
    os.environ["SEGTRAIN_RUN_ID"] = "compare"
    with initialize_config_dir(config_dir(), version_base="1.3"):
        space = OmegaConf.to_container(compose("sweep").sweep.space)
    assert isinstance(space, dict)
    budget = [f"trainer.max_epochs={given.epochs}", "trainer.check_val_every_n_epoch=1"]
    rows = compare(
        given.output.resolve(),
        [*budget, *overrides],
        trials=given.trials,
        seeds=given.seeds,
        space={str(key): value for key, value in space.items()},
    )
    print(f"\n{write(rows, given.output)}")


if __name__ == "__main__":
    main()
