"""Which runs are in a folder, and which of them are one setting with several seeds?"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import isfile
from pathlib import Path
from typing import Any

from segtrain.errors import UserError
from segtrain.json_file import read_json
from segtrain.metrics_file import numbers
from segtrain.results.flat import Value, key_of, says_what
from segtrain.results.runs import (
    FILES,
    GONE,
    Run,
    is_run,
    is_starting,
    may_look_into,
    name_of,
    read_run,
    seed_of,
)
from segtrain.run_lock import is_held
from segtrain.states import COMPLETE, FAILED, LOST, NOT_RUN, RECORD, RUNNING, STATES

log = logging.getLogger("segtrain")

DEPTH = 4  # folders below the one that was asked for: trials/0007/seed-1


@dataclass(frozen=True)
class Group:
    """The runs of one setting, which differ in their seed.

    Attributes:
        name: of the run folder, or of the trial; of several, all.
        folder: of the trial, or of the first run.
        runs: one a seed; none of a trial that did not come as far.
        repeats: further runs of these seeds, which are not counted.
        status: one of `STATES`.
        reason: why it is not complete, in a line.
        parameters: that were searched, of a trial.
        values: the objectives of a trial, as the search has them.
        seconds: that all took; None if nothing says so.
    """

    name: str
    folder: Path
    runs: tuple[Run, ...]
    status: str
    reason: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    repeats: tuple[Run, ...] = ()

    @property
    def complete(self) -> tuple[Run, ...]:
        """The runs that have scores."""
        return tuple(run for run in self.runs if run.status == COMPLETE)


@dataclass(frozen=True)
class Collection:
    """What there is in a folder.

    Attributes:
        folder: that was asked for.
        groups: the settings that were trained.
        objectives: {name in metrics.json: "max" or "min"}; those of the search, or what best.ckpt is chosen by.
        overrides: of every trial of a search.
    """

    folder: Path
    groups: tuple[Group, ...]
    objectives: Mapping[str, str]
    overrides: tuple[str, ...] = ()


def collect(folder: Path) -> Collection:
    """Read all runs and trials below a folder.

    Raises:
        UserError: if it is no folder, or there is none below it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of a sweep, such as outputs/sweeps/NAME, or outputs/runs")
    if not may_look_into(folder):
        raise UserError(f"{folder}: you may not read it; ask its owner, or give another folder")
    found = _once(sorted(_walk(folder), key=_natural), folder)
    # a grid's jobs have a trial.json each too, but the seed may be among what differs between them
    trials = [path for path in found if path.resolve().parent.name == "trials" and isfile(path / RECORD)]
    groups = [_trial(path) for path in trials]
    groups += _by_setting([_job(path) for path in found if path not in trials], folder)
    if not groups:
        raise UserError(f"{folder}: no run here or below (a run folder has a config.yaml and a train.log)")
    facts, _ = read_json(folder / "sweep.json")
    objectives = facts.get("objectives")
    if not isinstance(objectives, dict) or not objectives:
        objectives = _objectives(groups)
    return Collection(folder, tuple(groups), objectives, tuple(map(str, facts.get("overrides") or ())))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the folders of trials and runs, also those that links lead to; none lies in another."""
    for top, below, files in os.walk(
        folder, followlinks=True, onerror=lambda error: log.warning(f"passed over: {error}")
    ):
        path = Path(top)
        if {RECORD, *FILES} & set(files):
            below.clear()
            yield path
        elif len(path.relative_to(folder).parts) >= DEPTH:
            below.clear()
        else:
            below[:] = [name for name in below if not _leads_back(path / name)]


def _leads_back(path: Path) -> bool:
    """Say whether a path is a link to a folder that it lies in, where there is nothing new."""
    return os.path.islink(path) and path.parent.resolve().is_relative_to(path.resolve())


def _once(found: list[Path], root: Path) -> list[Path]:
    """Return one of the paths that lead to a folder, without a link if there is one, and none into that of a trial."""
    real_root, first = root.resolve(), dict[Path, Path]()
    for path in sorted(found, key=lambda path: real_root / path.relative_to(root) != path.resolve()):
        first.setdefault(path.resolve(), path)
    kept = [path for real, path in first.items() if not any(parent in first for parent in real.parents)]
    return sorted(kept, key=_natural)


def _natural(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """Sort a grid's job 10 behind job 9."""
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.parts)


def _trial(path: Path) -> Group:
    trial, damage = read_json(path / RECORD)
    folders = [path] if is_run(path) else sorted((p for p in path.glob("seed-*") if is_run(p)), key=_natural)
    runs = tuple(read_run(folder) for folder in folders)
    status, reason = _state(trial, damage, [path, *folders])
    seconds = trial.get("seconds")
    return Group(
        name_of(path),
        path,
        runs,
        status,
        reason,
        parameters=_parameters(trial),
        values=numbers(trial.get("values") or {}),
        seconds=seconds if isinstance(seconds, int | float) else _total(runs),
    )


def _job(path: Path) -> Run:
    """Return a run; a grid's record of the job says what the run folder itself cannot."""
    run, (record, damage) = read_run(path), read_json(path / RECORD)
    if not isfile(path / RECORD):
        return run
    status, reason = _state(record, damage, [path])
    parameters = _parameters(record)
    overrides = run.overrides or tuple(f"{key}={value}" for key, value in parameters.items())
    own = run.seed if run.seed is not None else seed_of(overrides)
    run = replace(run, overrides=overrides, seed=own, seconds=_longer(record.get("seconds"), run.seconds))
    if status == NOT_RUN and is_run(path):  # the grid left it to SLURM, or to the user
        return run
    # without a lock, its folder is taken for that of one that starts: one that the grid has ended does not
    runs = run.status == RUNNING and (status == RUNNING or is_held(path))
    return run if runs or run.status in (COMPLETE, FAILED) else replace(run, status=status, reason=reason)


def _state(record: dict[str, Any], damage: str, folders: Sequence[Path]) -> tuple[str, str]:
    """Return state and reason; what was running is lost where no process has it and nothing is written any more."""
    status, reason = str(record.get("state", LOST)), str(record.get("reason") or damage)
    if status == RUNNING and not any(map(is_held, folders)) and not any(map(is_starting, folders)):
        status, reason = LOST, GONE
    return status if status in STATES else LOST, " ".join(reason.split())


def _longer(recorded: Any, logged: float | None) -> float | None:
    """Return how long a job took: with its start-up as the grid has it, or in all as its log has it if it went on."""
    known = [seconds for seconds in (recorded, logged) if isinstance(seconds, int | float) and seconds]
    return max(known, default=None)


def _parameters(record: dict[str, Any]) -> dict[str, Value]:
    parameters = record.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _by_setting(runs: list[Run], root: Path) -> Iterator[Group]:
    """Put the runs that differ only in their seed together, also those that failed before they had a config."""
    found: dict[str, list[Run]] = {}
    overrides: dict[tuple[str, ...], str] = {}
    for run in sorted(runs, key=lambda run: not run.settings):  # those without a config last
        given = tuple(word for word in run.overrides if key_of(word) != "seed" and says_what(key_of(word)))
        key = json.dumps([dict(run.settings), given if not run.settings else ""], sort_keys=True)
        if run.settings:
            overrides[given] = key
        found.setdefault(key if run.settings or not given else overrides.get(given, key), []).append(run)
    for all_of_it in found.values():
        same, repeats = _one_a_seed(all_of_it)
        status = min((run.status for run in same), key=STATES.index)
        others = [run for run in same if run.status != COMPLETE]
        reason = "; ".join(dict.fromkeys(" ".join(run.reason.split()) for run in others if run.reason))
        name = ", ".join(_name(run.folder, root) for run in same)
        yield Group(name, same[0].folder, same, status, reason, seconds=_total([*same, *repeats]), repeats=repeats)


def _one_a_seed(runs: list[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Return the last complete run of every seed, else the last, and the others: a seed twice is no second sample."""
    in_time = sorted(runs, key=lambda run: (run.status == COMPLETE, run.ended, _natural(run.folder)))
    last = {run.folder if run.seed is None else run.seed: run for run in in_time}
    kept = sorted(last.values(), key=lambda run: (run.seed is None, run.seed or 0, _natural(run.folder)))
    return tuple(kept), tuple(run for run in in_time if run not in kept)


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else name_of(folder)


def _total(runs: tuple[Run, ...] | list[Run]) -> float | None:
    taken = [run.seconds for run in runs if run.seconds is not None]
    return sum(taken) if taken else None


def _objectives(groups: list[Group]) -> dict[str, str]:
    """Return what most runs that have a config choose their best checkpoint by; of several the first."""
    directions = [run.direction for group in groups for run in group.runs if run.settings]
    name, mode = max(dict.fromkeys(directions), key=directions.count, default=("val/miou", "max"))
    return {name: mode}
