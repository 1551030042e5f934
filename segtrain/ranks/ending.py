"""How a process ended, and how to go on, in words."""

import contextlib
import re
import shlex
import signal
from pathlib import Path

from segtrain.errors import first_line

# exit statuses of ranks that end in order; the second by a signal, with a checkpoint: EX_TEMPFAIL of sysexits.h
DONE, STOPPED = 0, 75
# what gloo, NCCL and torch's store say when another rank is gone or does not answer
LOST = re.compile(r"gloo/|NCCL|TCPStore|Connection (closed|reset) by peer|Broken pipe|Timed out waiting")


class Terminated(SystemExit):
    """A rank that got SIGTERM outside of training; torchrun sends it to all once one has died."""


def lost_another(error: BaseException) -> bool:
    """Say whether an error is what a rank meets when another is gone or does not answer."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "DistError" in names or ("RuntimeError" in names and LOST.search(str(error)) is not None)


def how_lost(error: BaseException, rank: int) -> str:
    """Return in a sentence what a rank has met that is without another."""
    said = re.sub(r"^\[\S+\] ", "", first_line(error)).split(". ")[0]  # a place in gloo, and advice of no use here
    if "imed out" in said:
        return f"rank {rank} has waited for another in vain, which hangs or is stopped ({said})"
    return f"rank {rank} has lost the connection to another ({said})"


def in_order(error: BaseException) -> bool:
    """Say whether an exception is an end that the other ranks share."""
    return isinstance(error, SystemExit) and error.code in (None, DONE, STOPPED)


def how_ended(status: int) -> str:
    """Return how a process ended that has this status, as the end of a sentence."""
    if status >= 0:
        return f"ended with exit status {status}"
    name = ""
    with contextlib.suppress(ValueError):  # a real-time signal has none
        name = f" ({signal.Signals(-status).name})"
    memory = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status}{name}{memory}"


def why_left(error: BaseException, rank: int) -> str:
    """Return why a rank leaves that was interrupted or asked to exit."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return "interrupted"  # Lightning makes an exit of it
    if isinstance(error, Terminated):
        return f"rank {rank} got SIGTERM"
    return f"rank {rank} {how_ended(int(getattr(error, 'code', 1) or 0))}"


def go_on(run: Path | None) -> str:
    """Return how to go on with a run, as the end of a sentence; nothing if it has no checkpoint yet."""
    if run is None or not (run / "checkpoints" / "last.ckpt").is_file():
        return ""
    return f"; go on with: {resuming(run)}"


def resuming(run: Path) -> str:
    """Return the command that goes on with a run."""
    return shlex.join(["segtrain", "train", f"resume={run}"])
