"""What a search prints when it ends."""

import logging

from segtrain.sweep.worker import Worker

log = logging.getLogger("segtrain")


def finish(worker: Worker) -> None:
    """Say how many trials there are, which is the best, and how to go on."""
    search = worker.search
    log.info(f"{search.done()} of {search.n_trials} trials done")
