"""What a search writes into its folder and prints: at its start what it is, at its end what came of it."""

import logging
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from segtrain.errors import UserError, requirement
from segtrain.jobs import TYPED, without_password
from segtrain.json_file import read_json
from segtrain.results.collect import collect
from segtrain.results.rows import make_results
from segtrain.results.show import results_text
from segtrain.sweep.files import write_csv, write_json
from segtrain.sweep.history import Past, history, history_table, trials_table
from segtrain.sweep.importance import Importance, importance, importance_table
from segtrain.sweep.search import Plan
from segtrain.sweep.space import Space
from segtrain.sweep.study import Search
from segtrain.sweep.worker import Worker

log = logging.getLogger("segtrain")

MATPLOTLIB, SKLEARN = "matplotlib>=3.9", "scikit-learn>=1.6"


def begin(plan: Plan, search: Search, folder: Path) -> None:
    """Write sweep.json, by which `segtrain results` knows the search without its study.

    Raises:
        UserError: if the folder's trials are of another study, whose scores this one would take for its own.
    """
    cfg = plan.cfg
    theirs = read_json(folder / "sweep.json")[0]
    ids = {theirs.get("id"), search.id} - {None, ""}  # a study whose maker died has none
    if (folder / "trials").is_dir() and (len(ids) > 1 or not search.trials()):
        by = f" (begun by: {theirs['command']})" if "command" in theirs else ""
        raise UserError(
            f"study: {folder} has the trials of another study of this name{by}, whose storage is another or was "
            "removed; give storage=... as it was, study=ANOTHER for a new search, or remove the folder"
        )
    facts = {
        "study": cfg["study"],
        "id": search.id,
        "storage": None if cfg["storage"] is None else without_password(cfg["storage"]),
        "objectives": plan.objectives,
        "space": plan.space.texts(),
        "overrides": list(plan.overrides),
        "n_trials": plan.n_trials,
        "seeds": cfg["seeds"],
        "command": command(),
    }
    write_json(folder / "sweep.json", facts)


def command() -> str:
    """Return the search's command as it can be typed; a password is left to be filled in."""
    return shlex.join(["segtrain", "sweep", *map(without_password, TYPED)])


def finish(worker: Worker) -> None:
    """Write tables and pictures of all trials, show the results of those here, and say how to go on."""
    search, folder = worker.search, worker.folder
    trials = search.trials()
    past = history(trials, worker.objectives)
    said = write_reports(search.study, trials, worker.objectives, search.space, folder)
    if (shown := _results(folder)) is not None:
        log.info(f"\n{shown}\n")
    log.info(_counts(search, past))
    for line in [*_elsewhere(past, folder), *said]:
        log.info(line)
    log.info(f"search folder  {folder}")
    log.info(f"curves         tensorboard --logdir {shlex.quote(str(folder))}")
    if search.done() < search.n_trials and not search.exhausted:
        log.info(f"go on with     {command()}")


def write_reports(
    study: optuna.Study, trials: Sequence[FrozenTrial], objectives: Mapping[str, str], space: Space, folder: Path
) -> list[str]:
    """Write trials.csv, history and importance as CSV and PNG, and return what there is to say of them."""
    if not trials:
        return []
    past = history(trials, objectives)
    write_csv(folder / "trials.csv", *trials_table(past, objectives))
    write_csv(folder / "history.csv", *history_table(past, objectives))
    said: list[str] = []
    found: list[Importance] = []
    try:
        with requirement("scikit-learn", SKLEARN):
            found, said = importance(study, trials, list(objectives), space)
    except ValueError as error:
        said.append(str(error))
    if found:
        write_csv(folder / "importance.csv", *importance_table(found))
    try:
        _draw(past, objectives, found, folder, title=f"search {study.study_name}")
    except ValueError as error:
        said.append(str(error))
    return said


def _draw(
    past: Sequence[Past],
    objectives: Mapping[str, str],
    found: Sequence[Importance],
    folder: Path,
    *,
    title: str,
) -> None:
    with requirement("matplotlib", MATPLOTLIB):
        from segtrain.sweep import pictures

    complete = sum(trial.state == "complete" for trial in past)
    pictures.draw_history(folder / "history.png", past, objectives, title=title)
    if found:
        pictures.draw_importance(folder / "importance.png", found)
    if len(objectives) == 2 and complete:
        pictures.draw_front(folder / "front.png", past, objectives, title=title)


def _results(folder: Path) -> str | None:
    """Return what `segtrain results` shows; None where none of the trials was trained here."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    try:
        return results_text(make_results(collect(folder)), width=width)
    except UserError:
        return None


def _counts(search: Search, past: Sequence[Past]) -> str:
    states = Counter(trial.state for trial in past)
    counts = ", ".join(f"{states[state]} {state}" for state in dict.fromkeys(trial.state for trial in past))
    return f"{search.done()} of {search.n_trials} trials done" + (f": {counts}" if counts else "")


def _elsewhere(past: Sequence[Past], folder: Path) -> list[str]:
    names = [trial.folder for trial in past if trial.state != "waiting"]
    missing = [name for name in names if not (folder / "trials" / name).is_dir()]
    if not missing:
        return []
    return [f"{len(missing)} trials were trained on other machines, and have their folders there; trials.csv has all"]
