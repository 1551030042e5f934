"""How much memory had this process at most, since its start or since a grid's job began?"""

import re
import resource
import sys
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux's
_OF_ALL: list[bool] = []  # not empty: the peak is that of several jobs


def begin_peak() -> None:
    """Let the peak begin at what the process has now; where that cannot be there is none from now on."""
    _OF_ALL.clear()
    try:
        FORGET.write_text("5", encoding="ascii")
    except OSError:
        _OF_ALL.append(True)


def peak_resident() -> float | None:
    """Return the most memory in MiB; None in a grid's job where it cannot be told from that of the jobs before."""
    if _OF_ALL:
        return None
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of the whole process, whatever was forgotten
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
