"""Which commands train the winner anew, and score the checkpoint that it has on the test split?"""

import shlex
from collections.abc import Sequence
from os.path import isfile

from segtrain.results.collect import Collection
from segtrain.results.flat import key_of
from segtrain.results.rows import Row
from segtrain.results.runs import Run

MOST = 5  # checkpoints of one setting whose commands are shown
ELSEWHERE = ("resume", "test", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")


def train_command(row: Row, collection: Collection) -> str:
    """Return the command that trains a setting anew with its first seed, and scores the test split at its end."""
    run = row.group.runs[0] if row.group.runs else None
    if run is not None and run.overrides:
        given, flags = list(run.overrides), list(run.flags)
    else:
        given, flags = [*collection.overrides, *(f"{k}={v}" for k, v in row.group.parameters.items())], []
    if run is not None and run.seed is not None and not any(key_of(word) == "seed" for word in given):
        given.append(f"seed={run.seed}")
    kept = [word for word in given if key_of(word) not in ELSEWHERE]
    return shlex.join(["segtrain", "train", *flags, *kept, "test=true"])


def eval_commands(row: Row) -> list[str]:
    """Return the commands that score the best checkpoint of each of a setting's runs on the test split."""
    return [_eval(run) for run in row.group.complete if isfile(run.folder / "checkpoints" / "best.ckpt")]


def advice(row: Row, collection: Collection, *, title: str) -> list[str]:
    """Return the lines below the table that say how to go on with a setting."""
    scored = eval_commands(row)
    lines = [f"{title}: train it anew and test it", f"  {train_command(row, collection)}"]
    if scored:
        kept = "the checkpoint that it has" if len(scored) == 1 else "the checkpoints that it has (one a seed)"
        lines += [f"or score {kept} on the test split", *[f"  {command}" for command in scored[:MOST]]]
        lines += [f"  ... and those of {len(scored) - MOST} more seeds"] if len(scored) > MOST else []
    return lines


def _eval(run: Run) -> str:
    return shlex.join(["segtrain", "eval", f"checkpoint={run.folder / 'checkpoints' / 'best.ckpt'}", "split=test"])


def front_advice(rows: Sequence[Row], collection: Collection, *, most: int = 3) -> list[str]:
    """Return the commands of the first members of a Pareto front."""
    lines = [line for row in rows[:most] for line in advice(row, collection, title=f"row {row.number} of the front")]
    return [*lines, f"... and {len(rows) - most} more rows of the front"] if len(rows) > most else lines
