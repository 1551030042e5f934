"""`segtrain train -m` in this process, which is quicker than starting Python."""

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from segtrain.commands.train import main
from segtrain.grid.record import JOBS
from segtrain.launch import launch
from segtrain.run_id import VARIABLE
from segtrain.signals import EARLY


def train_grid(folder: Path, *arguments: str) -> int:
    """Run the command in a folder; return its exit status."""
    return run_train(folder, "-m", *arguments)


def run_train(folder: Path, *arguments: str) -> int:
    """Run `segtrain train` in a folder; return its exit status."""
    with _as_command(folder, arguments):
        try:
            launch(main, "train")
        except SystemExit as error:
            return int(error.code or 0)
    return 0


@contextmanager
def _as_command(folder: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Be a process that was just started, and put back what it was before."""
    root = logging.getLogger()
    handlers, words, environment, here = list(root.handlers), sys.argv, dict(os.environ), Path.cwd()
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    GlobalHydra.instance().clear()
    JOBS.clear()
    EARLY.clear()
    sys.argv = ["segtrain train", *arguments]
    os.environ.pop(VARIABLE, None)
    root.handlers = []
    os.chdir(folder)
    gc.freeze()  # what other tests have left is not looked through after each job
    try:
        with warnings.catch_warnings():
            yield
    finally:
        gc.unfreeze()
        os.chdir(here)
        root.handlers = handlers
        logging.captureWarnings(False)
        sys.argv = words
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in kept.items():
            signal.signal(number, handler)
        GlobalHydra.instance().clear()
        EARLY.clear()
