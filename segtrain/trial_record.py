"""trial.json: what has become of a trial of a search, or of a job of a grid, beside its run folders."""

import json
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtrain.json_file import read_json
from segtrain.run_folder import write_text
from segtrain.states import NOT_RUN, RECORD

log = logging.getLogger("segtrain")


def write_record(
    folder: Path,
    state: str,
    *,
    number: int,
    values: Mapping[str, float],
    parameters: Mapping[str, bool | int | float | str],
    **facts: Any,
) -> None:
    """Write a record; that there is no room for it costs neither search nor grid.

    Args:
        folder: of the trial or job.
        state: one of `segtrain.states.STATES`.
        number: in the study or grid.
        values: {objective: mean over its seeds}, of a complete one.
        parameters: what it was trained with.
        facts: reason, seconds, tries, and the host if it is another than this.
    """
    record = {"number": number, "state": state, "values": dict(values), "host": socket.gethostname(), **facts}
    record["parameters"] = dict(parameters)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    except OSError as error:  # a study has it, and the next call of the command writes it
        log.warning(f"cannot write {folder / RECORD} ({error.strerror})")


def read_state(folder: Path) -> str | None:
    """Return the state in a record; None if there is none that reads."""
    state = read_json(folder / RECORD)[0].get("state")
    return None if state is None else str(state)


def withdraw(folder: Path) -> None:
    """Remove the record of a job that has not run, as it could not be submitted."""
    if read_state(folder) == NOT_RUN:
        (folder / RECORD).unlink(missing_ok=True)
