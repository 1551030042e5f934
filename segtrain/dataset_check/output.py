"""Where a check leaves check.json and check.png: a folder of its own."""

import json
from pathlib import Path

from segtrain.dataset_check.check import Result
from segtrain.dataset_check.picture import write as write_picture
from segtrain.errors import UserError
from segtrain.run_folder import write_text


def prepare(folder: Path) -> Path:
    """Make the folder before anything is read.

    Raises:
        UserError: if a check is there already, or it cannot be written.
    """
    if (folder / "check.json").exists():
        raise UserError(f"output: {folder} has a check already, which is not overwritten; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: cannot write {folder} ({error.strerror}); give output=FOLDER") from error
    return folder


def write(result: Result, folder: Path) -> None:
    """Write both files."""
    write_text(folder / "check.json", json.dumps(result.as_json(), indent=1) + "\n")
    write_picture(result, folder / "check.png")
