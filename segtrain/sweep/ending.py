"""How did a worker end, and how does its search go on?"""

import signal
from dataclasses import dataclass

from segtrain.ranks.ending import STOPPED

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
GO_ON = "the same command goes on with the search"


@dataclass(frozen=True)
class End:
    """How a worker ended.

    Attributes:
        status: of its process: 0, 1 after errors, 75 or 130 after a signal.
        sentence: what to say; empty when nothing is left to do.
    """

    status: int = 0
    sentence: str = ""


def how_it_ended(interrupted: str, error: str) -> End:
    """Return how a worker ended.

    Args:
        interrupted: the name of the signal; empty without one.
        error: why it stopped by itself; empty if it did not.
    """
    if interrupted:
        by = "Ctrl-C" if interrupted == "SIGINT" else interrupted
        return End(130 if interrupted == "SIGINT" else STOPPED, f"stopped by {by}; {GO_ON}")
    return End(1, f"{error}; {GO_ON} once that is mended") if error else End()
