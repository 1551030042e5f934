"""A rank whose launcher is gone ends too: one that was killed can tell nobody, and the ranks would wait for it."""

import os
import sys
import threading
import time

GRACE = 10.0  # seconds in which a rank may come to its own end


def end_with_launcher(*, every: float = 1.0, grace: float = GRACE) -> None:
    """Watch, in a thread, the process that started this one, if this is one of the ranks that it started.

    Args:
        every: seconds between two looks.
        grace: seconds from its end to ours.
    """
    if "LOCAL_RANK" in os.environ:  # set for torchrun's workers, and for all but the first of Lightning's processes
        threading.Thread(target=_watch, args=(os.getppid(), every, grace), daemon=True, name="launcher-watch").start()


def _watch(launcher: int, every: float, grace: float) -> None:
    while os.getppid() == launcher:
        time.sleep(every)
    time.sleep(grace)
    print(f"segtrain: rank {_rank()}: the process that started it is gone, so it ends too", file=sys.stderr, flush=True)
    os._exit(1)


def _rank() -> str:
    return os.environ.get("RANK", os.environ["LOCAL_RANK"])
