"""What a task of the job array runs: the train command of its job, as which SLURM then knows it."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def become(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `segtrain train`, which saves and requeues its job by itself when it is preempted.

    So submitit, which would do likewise, has no part in it: it would start the job anew.

    Args:
        arguments: what follows `segtrain train`.
    """
    # by default they would end it before it can note them; SIGTERM is followed by the end anyway
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, "-m", "segtrain", "train", *arguments])
