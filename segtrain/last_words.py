"""What did a process print last, and what does that say of its end?"""

from itertools import dropwhile, takewhile
from pathlib import Path

PRINTED, TAIL = 1000, 20  # lines that it printed last: what its end is read from, and what is kept of them
WRAPPED = "hydra.errors.InstantiationException: "  # begins what Hydra makes of a constructor's error
BETWEEN = "The above exception was the direct cause of the following exception:"
AROUND = ("srun:", "slurmstepd:")  # what SLURM prints behind it


def last_lines(path: Path | None, count: int = TAIL, *, start: int = 0) -> str:
    """Return the end of a text file; nothing if there is none.

    Args:
        path: the file.
        count: lines at most.
        start: the byte before which nothing is taken.
    """
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(start)
        return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-count:])


def last_words(printed: str) -> str:
    """Return the sentence of a user's mistake, or the last line of a traceback; of a constructor's, with its target."""
    lines = [line for line in printed.splitlines() if line.strip() and not line.startswith(AROUND)]
    starts = [index for index, line in enumerate(lines) if line.startswith("segtrain: ")]
    if starts:
        first = starts[-1]
        # torchrun prints more behind it; the problems of a list are indented
        more = list(takewhile(lambda line: line.startswith(" "), lines[first + 1 :]))
        return "\n".join([lines[first].removeprefix("segtrain: "), *more])
    return _of_constructor(lines) or (lines[-1].strip() if lines else "")


def _of_constructor(lines: list[str]) -> str:
    """Return the target and the error of a constructor, if that is what the last traceback is about."""
    last = max((index for index, line in enumerate(lines) if line.startswith("Traceback ")), default=0)
    words = [line.removeprefix(WRAPPED) for line in lines[last:] if line.startswith(WRAPPED)]
    if not words or lines[last - 1 : last] != [BETWEEN]:
        return ""
    before = lines[: last - 1]
    begun = max((index for index, line in enumerate(before) if "Traceback (" in line), default=-1)
    # its frames are indented, as lines of the error's message may be too
    cause = list(dropwhile(lambda line: line.startswith(" "), before[begun + 1 :])) or before[-1:]
    return " ".join(" ".join([words[-1], *cause]).split())
