"""Do two run folders hold the same: weights, optimizer, schedule, metrics, curves and log, all to the bit?

    python scripts/compare_runs.py outputs/runs/A outputs/runs/B

Left out are times and what depends on them (perf/...), and paths. Ends with status 1 at a difference.
"""

import argparse
import csv
import itertools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtrain.checkpoint import BEST, LAST, read_checkpoint

PARTS = ("state_dict", "training_state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of nested dicts and lists."""
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from flat(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def same(one: Any, other: Any) -> bool:
    """Compare tensors by type, shape and bits; NaN equals NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        )
    return one == other or (one != one and other != other)


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    """Return what counts of a checkpoint: weights, average, optimizer, schedule, step and best score."""
    content = read_checkpoint(run / "checkpoints" / name)
    found = {part: content.get(part) for part in PARTS}
    states = content["callbacks"].items()
    found["best"] = [float(state["best_model_score"]) for key, state in states if key.startswith("KeepBest")]
    return dict(flat(found))


def metrics_csv(run: Path) -> dict[str, str]:
    """Return the cells of metrics.csv, those of times only by whether they are there."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = {
        f"row {n}.{k}": bool(v) if k.startswith("perf/") else v for n, row in enumerate(rows) for k, v in row.items()
    }
    return {"rows": len(rows), **cells}


def metrics_json(run: Path) -> dict[str, Any]:
    """Return the final scores."""
    values = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if not key.startswith("perf/")}


def curves(run: Path) -> dict[str, Any]:
    """Return TensorBoard's scalars, as TensorBoard shows them: {tag.position: (step, value)}."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it remarks on every resume
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    found: dict[str, Any] = {}
    for tag in accumulator.Tags()["scalars"]:
        for number, event in enumerate(accumulator.Scalars(tag)):
            found[f"{tag}.{number}"] = (event.step, None if tag.startswith("perf/") else event.value)
    return found


def log(run: Path) -> dict[str, str]:
    """Return the log's lines of epochs, the last of each epoch, and the last table of scores."""
    text = [line.split(" INFO ", 1)[-1] for line in (run / "train.log").read_text(encoding="utf-8").splitlines()]
    epochs = {match[0]: line for line in text if (match := re.match(r"epoch \d+", line))}
    tables = [n for n, line in enumerate(text) if line.lstrip().startswith("class ")]
    table = itertools.takewhile(lambda line: not line.startswith("run folder"), text[tables[-1] :] if tables else [])
    return {**epochs, "table": "\n".join(table)}


SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    LAST: lambda run: checkpoint(run, LAST),
    BEST: lambda run: checkpoint(run, BEST),
    "metrics.csv": metrics_csv,
    "metrics.json": metrics_json,
    "tensorboard": curves,
    "train.log": log,
}


def differences(run: Path, other: Path) -> dict[str, list[str]]:
    """Return {section: what differs in it}; an empty list where all is equal."""
    found: dict[str, list[str]] = {}
    for name, section in SECTIONS.items():
        one, two = section(run), section(other)
        names = [key for key in {**one, **two} if key not in one or key not in two or not same(one[key], two[key])]
        found[name] = [f"{key}: {_shown(one, key)} and {_shown(two, key)}" for key in names]
    return found


def _shown(values: dict[str, Any], key: str) -> str:
    return re.sub(r"\s+", " ", str(values[key]))[:80] if key in values else "nothing"


def report(found: dict[str, list[str]]) -> bool:
    """Print a line a section; return whether all is equal."""
    for name, lines in found.items():
        print(f"{name:<16}{f'{len(lines)} differences, first {lines[0]}' if lines else 'bit-equal'}")
    return not any(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path, help="run folders")
    one, two = parser.parse_args().runs
    sys.exit(not report(differences(one, two)))


if __name__ == "__main__":
    main()
