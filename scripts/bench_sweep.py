"""What does a search cost beside its trainings, and does it cost more as its trials become many?

Runs `segtrain sweep` on trainings of one step and the same trainings in a plain loop, in turn, and prints seconds a
trial; then times the calls of a study that has many trials already:

    python scripts/bench_sweep.py --trials 50 --blocks 5
    python scripts/bench_sweep.py --trials 0 --counts 50 200 1000 --storage postgresql://USER@HOST/DATABASE
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import optuna

from segtrain.sweep.samplers import SamplerSettings, suggest
from segtrain.sweep.slots import Slot, make_slots
from segtrain.sweep.storage import open_search
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space

ONE_STEP = (
    "debug=fast",
    "trainer=cpu",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "model.encoder.base_channels=4",
    "model.encoder.depth=3",
    "dataset.crop_size=32",
    "loader.batch_size=2",
    "loader.eval_batch_size=2",
    "loader.num_workers=0",
)
SEARCH = ("study=bench", "sweep.pruner=none", "slots=1")
SPACE = {
    "optimizer.lr": "tag(log, interval(1e-4, 1e-2))",
    "optimizer.weight_decay": "tag(log, interval(1e-5, 1e-1))",
    "loss": "choice(ce, ce_dice, focal)",
    "loss.gamma": {"range": "interval(1, 4)", "when": "loss=focal"},
}
EPOCHS = 5  # scores of a trial of which the study is told


def seconds(folder: Path, *arguments: str, slot: Slot | None = None) -> float:
    """Return how long a segtrain command takes, in the environment of a search's slot if one is given.

    Raises:
        SystemExit: if it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SEGTRAIN_RUN_ID"}
    environment = environment if slot is None else slot.environment(environment)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "segtrain", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"segtrain {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def in_turn(folder: Path, *, trials: int, blocks: int) -> None:
    """Print seconds a trial of the search and of a plain loop of the same trainings, block by block."""
    size = trials // blocks
    first = seconds(folder, "sweep", *ONE_STEP, *SEARCH, "n_trials=1")
    ratios, added = [], []
    for block in range(blocks):
        total = 1 + (block + 1) * size
        command = ("sweep", *ONE_STEP, *SEARCH, f"n_trials={total}")
        searched = seconds(folder, *command)
        start = seconds(folder, *command)  # all is done: what remains is the command's own start, checks and report
        plain = loop(folder, range(total - size, total))
        search = (searched - start) / size
        ratios.append(search / plain)
        added.append(search - plain)
        print(
            f"block {block}: search {search:.2f} s a trial, plain loop {plain:.2f} s a training, ratio "
            f"{ratios[-1]:.3f}; the search's own start {start:.1f} s",
            flush=True,
        )
    print(
        f"{blocks} blocks of {size} trials: median ratio {statistics.median(ratios):.3f}, median overhead "
        f"{statistics.median(added):.2f} s a trial; the first trial with the search's start took {first:.1f} s"
    )
    print(own_seconds(folder))


def own_seconds(folder: Path) -> str:
    """Say how long the search was busy with itself for each trial, while none of its processes trained.

    That is what the study's times have beside the trainings' own, and from each trial's end to the next one's begin
    within one call; what else runs on the machine changes it little.
    """
    study = optuna.load_study(study_name="bench", storage=f"sqlite:///{folder}/outputs/sweeps/bench/study.db")
    trials = [(t.datetime_start, t.datetime_complete, t.user_attrs["seconds"]) for t in study.trials]
    within = [(end - start).total_seconds() - trained for start, end, trained in trials]
    gaps = [(after[0] - before[1]).total_seconds() for before, after in itertools.pairwise(trials)]
    between = statistics.median(gaps)  # most are within a call
    trained = statistics.median(seconds for _, _, seconds in trials)
    return (
        f"the search itself: median {statistics.median(within):.3f} s within a trial and {between:.3f} s between two, "
        f"beside {trained:.1f} s of training, most of it the start of a process"
    )


def loop(folder: Path, numbers: range) -> float:
    """Return mean seconds of a search's trainings when they are started one after the other by hand."""
    found = []
    (slot,) = make_slots(gpus=None, gpus_per_trial=1, slots=1, available_gpus=0)
    for number in numbers:
        trial = folder / "outputs" / "sweeps" / "bench" / "trials" / f"{number:04}"
        record = json.loads((trial / "trial.json").read_text(encoding="utf-8"))
        overrides = parse_space(SPACE).overrides(record["parameters"])
        run = f"hydra.run.dir={folder / 'plain' / str(number)}"
        found.append(seconds(folder, "train", *ONE_STEP, *overrides, "seed=0", "test=false", run, slot=slot))
    return statistics.mean(found)


def study_costs(url: str, counts: list[int], *, repeats: int) -> None:
    """Print milliseconds of the calls of a study by how many finished trials it has."""
    print(f"{'trials':>7} {'open':>9} {'ask':>9} {'report':>9} {'complete':>9} {'done':>9}   ms, median of {repeats}")
    for count in counts:
        name = f"bench-{count}-{time.time_ns()}"
        fill(url, name, count)
        costs: dict[str, list[float]] = {}
        with timed(costs, "open"):
            search = opened(url, name)
        search.ask()  # the first one reads all trials
        for _ in range(repeats):
            with timed(costs, "ask"):
                asked = search.ask()
            assert asked is not None
            for epoch in range(EPOCHS):
                with timed(costs, "report"):
                    search.report(asked, epoch, 0.5)
            with timed(costs, "complete"):
                search.complete(asked, [0.5], {"seconds": 1.0})
            with timed(costs, "done"):
                search.done()
        cells = " ".join(f"{statistics.median(values):9.1f}" for values in costs.values())
        print(f"{count:7} {cells}", flush=True)


@contextmanager
def timed(costs: dict[str, list[float]], key: str) -> Iterator[None]:
    """Add the milliseconds of the body to a list."""
    began = time.perf_counter()
    yield
    costs.setdefault(key, []).append(1e3 * (time.perf_counter() - began))


def opened(url: str, name: str) -> Search:
    """Return the search of a study, made if it is not there."""
    return open_search(
        url,
        name,
        space=parse_space(SPACE),
        objectives={"val/miou": "max"},
        overrides=[],
        settings=SamplerSettings(sampler="tpe", pruner="median", startup_trials=5, warmup=1, seed=0),
        n_trials=10**6,
        retries=2,
    )


def fill(url: str, name: str, count: int) -> None:
    """Make a study of finished trials, each with its scores by epoch."""
    search = opened(url, name)
    source = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        trial = source.ask()
        search.space.draw(partial(suggest, trial))
        for epoch in range(EPOCHS):
            trial.report(0.5 + trial.number / count / 10, epoch)
        trial.set_user_attr("folder", f"{trial.number:04}")
        source.tell(trial, 0.5 + trial.number / count / 10)
    search.study.add_trials(source.trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="of the search; 0 leaves this part out")
    parser.add_argument("--blocks", type=int, default=5, help="turns in which search and loop follow each other")
    parser.add_argument("--counts", type=int, nargs="*", default=[50, 200, 1000], help="finished trials of a study")
    parser.add_argument("--repeats", type=int, default=20, help="asked trials at each count")
    parser.add_argument("--storage", default=None, help="of the studies with many trials; a file if not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.trials:
            in_turn(folder, trials=given.trials, blocks=given.blocks)
        if given.counts:
            study_costs(given.storage or f"sqlite:///{folder / 'study.db'}", given.counts, repeats=given.repeats)


if __name__ == "__main__":
    main()
