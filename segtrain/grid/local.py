"""Running the jobs of a grid one after the other in this process."""

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.errors import InstantiationException

from segtrain.errors import UserError, first_line, message_of
from segtrain.grid.launcher import GridLauncher
from segtrain.grid.plan import compose, plan
from segtrain.grid.record import JOBS, Job
from segtrain.logs import log_to_file, start_logging
from segtrain.ranks import ending
from segtrain.signals import EARLY, SIGNALS, note_signals
from segtrain.states import COMPLETE, FAILED, STOPPED

log = logging.getLogger("segtrain")


class LocalLauncher(GridLauncher):
    """Runs jobs as Hydra's own does, but that a failed one ends itself alone, and none leaves anything behind."""

    __module__ = "hydra_plugins.segtrain"  # Hydra takes plugins from there only

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; what became of them is in their records.

        Raises:
            KeyboardInterrupt: by Ctrl-C, after the running job has ended.
            SystemExit: with status 75, by a signal that asks to stop, after the running job has saved.
        """
        start_logging(None)
        jobs = plan(self.context.config_loader, self.config, job_overrides, initial_job_idx)
        JOBS.extend(jobs)
        for job in jobs:
            if job.state == FAILED:
                refuse(job)
            else:
                job.await_turn()
        from segtrain.deterministic import fix_workspace
        from segtrain.grid.fresh import forget, fresh

        if any(job.exact for job in jobs):
            fix_workspace()  # for all jobs: the process has it from the first one on, or never
        with _noted_signals():
            for job in [job for job in jobs if job.state != FAILED]:
                if EARLY:
                    raise SystemExit(ending.STOPPED)
                try:
                    with fresh():
                        self._run(job)
                finally:
                    start_logging(None)
                    forget()
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def _run(self, job: Job) -> None:
        """Run a job and record how it ended; nothing of it is kept, least of all its error, which holds the network.

        Raises:
            KeyboardInterrupt: if the user ended it.
            SystemExit: if a signal did.
        """
        job.begin()
        try:
            reason = self._reason(job)
        except KeyboardInterrupt:
            job.end(STOPPED, "interrupted")
            raise
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes an exit of it
                job.end(STOPPED, "interrupted")
                raise KeyboardInterrupt from None
            if error.code == ending.STOPPED:
                job.end(STOPPED, "stopped by a signal")
                raise
            reason = f"it called sys.exit({error.code})"
            log_to_file(reason)
        if reason:
            start_logging(None)  # the last words of the job's log stay those of the error
            log.error(f"job {job.folder.name} failed: {reason.splitlines()[0]}")
        job.end(FAILED if reason else COMPLETE, reason)

    def _reason(self, job: Job) -> str:
        """Return why a job failed, in words; nothing if it did not."""
        try:
            done = run_job(
                hydra_context=self.context,
                task_function=self.task,
                config=compose(self.context.config_loader, self.config, job),
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except Exception as error:
            return reason_of(error)
        return reason_of(done._return_value) if done.status == JobStatus.FAILED else ""


def refuse(job: Job) -> None:
    """Say at once that a job cannot run, also in its log; the others go on."""
    job.end(FAILED, job.reason)
    with (job.folder / "train.log").open("a", encoding="utf-8") as file:
        file.write(f"{job.reason}\n")
    log.error(f"job {job.folder.name} cannot run: {job.reason}")


def reason_of(error: BaseException) -> str:
    """Return an error in words: a user's mistake is its sentence, a constructor's error names its target and cause."""
    if isinstance(error, UserError):
        return message_of(error)
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return " ".join(f"{first_line(error)} {reason_of(error.__cause__)}".split())
    return f"{type(error).__name__}: {error}"


@contextmanager
def _noted_signals() -> Iterator[None]:
    """Note what asks to stop between two jobs, or while one loads: it is obeyed after the first step."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    note_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
