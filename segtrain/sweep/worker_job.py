"""A worker of a search inside a SLURM job: it begins with what its machine's end left, and is run again if need be."""

import os
import signal
import sys
from collections.abc import Sequence

from segtrain.clusters.slurm import requeue_job
from segtrain.signals import EARLY, SIGNALS, note_signals
from segtrain.sweep.ending import End
from segtrain.sweep.worker import Worker

VARIABLE = "SEGTRAIN_SWEEP_JOB"  # says that this process is a worker's job


def work(arguments: Sequence[str]) -> None:
    """Run a worker; this is what the job calls.

    Args:
        arguments: of `segtrain sweep`, as the user gave them.
    """
    note_signals()  # submitit's own would let a preempted job end without its trials
    os.environ[VARIABLE] = os.environ["SLURM_JOB_ID"]
    sys.argv = ["segtrain", "sweep", *arguments, "launcher=local"]
    from segtrain.cli import main

    main()


def in_worker_job() -> bool:
    """Say whether this process is a worker that another one submitted, and which reports for it."""
    return VARIABLE in os.environ


class JobWorker(Worker):
    """A worker in a job: when SLURM takes its machine, its trials save, and SLURM runs it again."""

    def run(self) -> End:
        """Run trials until all are done, or a signal ends this worker."""
        job, restarts = os.environ[VARIABLE], int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.search.job = f"{job}.{restarts}"
        give_up(self, job, before=restarts)  # what a machine's end has left
        for number in SIGNALS:
            signal.signal(number, self._note)
        if EARLY:  # looked at last: until then one may have come
            self.interrupted = signal.Signals(EARLY[-1]).name
        try:
            return super().run()
        finally:
            if self.interrupted:  # also where the storage did not answer any more: the trials are saved
                requeue_job()


def give_up(worker: Worker, job: str, *, before: int | None = None) -> None:
    """Have the trials asked again that a job was running when it ended without a word.

    Args:
        worker: of the search.
        job: SLURM's id.
        before: SLURM has run the job again so often, and what it has begun since is its own; None if it is over.
    """
    worker.search.give_up(job, before=before)
    worker.take_over()
