"""What does one run folder say of its run: settings, scores, how it ended?"""

import argparse
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from segtrain.config.quoting import quote
from segtrain.json_file import read_json
from segtrain.metrics_file import numbers, read_rows
from segtrain.results.flat import Value, settings_of
from segtrain.results.run_log import Log, read_log
from segtrain.run_lock import is_held
from segtrain.states import COMPLETE, FAILED, LOST, RUNNING, STOPPED

FILES = ("config.yaml", "train.log")  # a run folder has one of them at least
GONE = "ended without a word: killed, or lost with its machine"
STARTING = 120  # seconds in which a process may not have come as far as its run folder's lock
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        folder: of the run.
        status: complete, running, stopped, failed or lost.
        reason: why it is not complete, in a line.
        seed: of the training.
        settings: its config's plain values by dotted key that say what was trained, without the seed.
        choices: {group: option} of its config; empty if the run folder does not say.
        overrides: as they were given.
        flags: --config-dir and the like, as they were given.
        metrics: of metrics.json; the score of an absent class (null) is left out.
        seconds: that it took.
        ended: when the last line of its log was written, in ISO's form; empty if it has none.
        history: (epoch, {metric: value}) of every epoch.
        direction: (monitored score, max or min).
    """

    folder: Path
    status: str
    reason: str = ""
    seed: int | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    ended: str = ""
    history: tuple[tuple[int, Mapping[str, float]], ...] = ()
    direction: tuple[str, str] = ("val/miou", "max")


def is_run(folder: Path) -> bool:
    """Say whether a folder is that of a run, or of one that failed before it could be written."""
    return any(isfile(folder / name) for name in FILES)


def name_of(folder: Path) -> str:
    """Return a folder's name, also that of `.`."""
    return os.path.basename(os.path.abspath(folder))


def may_look_into(folder: Path) -> bool:
    """Say whether this user may list a folder and read what is in it."""
    return os.access(folder, os.R_OK | os.X_OK)


def read_run(folder: Path) -> Run:
    """Return what a run folder says; files that are damaged or missing are told in the run's reason."""
    if not may_look_into(folder):
        return Run(folder, LOST, "nothing is known of it: you may not read its folder")
    configs, log = list(_configs(folder)), read_log(folder / "train.log")
    config = configs[-1] if configs else {}
    environment, _ = read_json(folder / "environment.json")
    metrics, damage = read_json(folder / "metrics.json")
    status, reason = _status(folder, log, damage)
    command = [str(word) for word in environment.get("command") or []]
    given = environment.get("overrides", [word for word in command[1:] if "=" in word and word[0] != "-"])
    overrides = log.overrides if not environment else tuple(map(str, given))
    settings = _settings(config)
    if len(configs) > 1:
        begun = _settings(configs[0])
        changed = {key: _quoted(value) for key, value in settings.items() if begun.get(key) != value}
        overrides += tuple(f"{'' if key in begun else '++'}{key}={value}" for key, value in changed.items())
    policy = config.get("checkpoint")
    policy = policy if isinstance(policy, dict) else {}
    seed = config.get("seed", seed_of(overrides))
    return Run(
        folder,
        status,
        reason,
        seed=seed if isinstance(seed, int) else None,
        settings=settings,
        choices={str(group): str(option) for group, option in (environment.get("choices") or {}).items()},
        overrides=overrides,
        flags=_flags(command[1:]),
        metrics=numbers(metrics),
        seconds=log.seconds,
        ended=log.ended,
        history=tuple(_history(folder)),
        direction=(policy.get("monitor", "val/miou"), policy.get("mode", "max")),
    )


def is_starting(folder: Path) -> bool:
    """Say whether a folder was written to so lately that a process may be starting there."""
    written = 0.0
    for path in folder.glob("*"):
        with suppress(OSError):  # one that is replaced meanwhile
            written = max(written, path.stat().st_mtime if isfile(path) else 0.0)
    return time.time() - written < STARTING


def _status(folder: Path, log: Log, damage: str) -> tuple[str, str]:
    if is_held(folder):
        return RUNNING, ""
    if isfile(folder / "metrics.json") and not damage:
        # a run that is gone on with has none until it ends, so a later error is of a command that was refused
        return (FAILED, log.untested) if log.untested else (COMPLETE, "")
    if log.error or damage:
        return FAILED, log.error or damage
    if log.stopped:
        return STOPPED, log.stopped
    if isfile(folder / "train.log") and not isfile(folder / "config.yaml") and is_starting(folder):
        return RUNNING, ""
    return LOST, GONE


def _configs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the config with which a run was begun, and those with which it was gone on with."""
    resumed = [path for path in folder.glob("resumed-*.yaml") if re.fullmatch(r"resumed-\d+", path.stem)]
    for path in [folder / "config.yaml", *sorted(resumed, key=lambda path: int(path.stem.partition("-")[2]))]:
        try:
            config = yaml.load(path.read_text(encoding="utf-8"), Loader)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(config, dict):
            yield config


def _settings(config: Mapping[str, Any]) -> dict[str, Value]:
    return settings_of({key: value for key, value in config.items() if key != "seed"})


def _quoted(value: Value) -> str:
    """Return a value as an override has it; texts of more than words are quoted."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or re.fullmatch(r"[\w./:+-]+|\[.*\]", value):
        return str(value)
    return quote(value)


def seed_of(overrides: tuple[str, ...]) -> int | None:
    """Return the seed that a run was given; None without one."""
    given = [word.partition("=")[2] for word in overrides if word.startswith("seed=")]
    return int(given[-1]) if given and given[-1].isdecimal() else None


def _flags(words: list[str]) -> tuple[str, ...]:
    """Return the flags of a command by which its configs are found."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--config-name", "-cn")
    found = parser.parse_known_args(words)[0]
    flags = [word for folder in found.config_dir for word in ("--config-dir", folder)]
    return (*flags, *(["--config-name", found.config_name] if found.config_name else []))


def _history(folder: Path) -> list[tuple[int, dict[str, float]]]:
    rows: list[tuple[int, dict[str, float]]] = []
    try:
        found = read_rows(folder / "metrics.csv")
    except OSError:
        return rows
    for row in found:
        try:
            rows.append((int(row["epoch"]), numbers({k: float(v) for k, v in row.items() if v and k != "epoch"})))
        except (KeyError, ValueError):
            continue  # a row that a full disk cut
    return rows
