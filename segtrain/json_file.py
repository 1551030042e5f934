"""What is in a JSON file that a run or a search wrote, and does it read?"""

import json
from os.path import isfile
from pathlib import Path
from typing import Any


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Return the object in a file, empty if there is none, and what is wrong with the file."""
    if not isfile(path):
        return {}, ""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, f"{path.name} does not read ({getattr(error, 'strerror', None) or error})"
    return (values, "") if isinstance(values, dict) else ({}, f"{path.name} is no object of names and values")
