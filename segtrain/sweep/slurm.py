"""The jobs that run a search's trials on SLURM: submitted, watched, replaced where they are lost, ended with it."""

import logging
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segtrain.clusters.job_state import NoAnswerError, is_over, job_facts, why_over
from segtrain.clusters.submit import Resources, Submitter
from segtrain.errors import UserError
from segtrain.last_words import last_lines
from segtrain.sweep.ending import GO_ON, End, how_it_ended
from segtrain.sweep.known_jobs import KnownJobs, WorkerJob
from segtrain.sweep.worker import Worker
from segtrain.sweep.worker_job import give_up, work

log = logging.getLogger("segtrain")

POLL = 3.0  # seconds between two questions to SLURM
PATIENCE = 60.0  # seconds for one of SLURM's commands
AGAIN = 20.0  # seconds after which a job that still runs is asked to end once more


class SlurmWorkers(Worker):
    """The search's worker where others do the work: it submits their jobs and watches over them.

    Args:
        arguments: of the sweep command, as they were typed.
        count: how many jobs there are to be.
        resources: of each job.
        others: as of a Worker; it has no slots.
    """

    def __init__(self, *others: Any, arguments: Sequence[str], count: int, resources: Resources, **more: Any) -> None:
        super().__init__(*others, slots=(), **more)
        self.arguments = list(arguments)
        self.count = count
        self.resources = resources
        self.jobs: list[WorkerJob] = []
        self.known = KnownJobs(self.home, arguments)
        self.failures: list[str] = []
        self.silent = False  # SLURM did not answer when it was asked last

    @property
    def home(self) -> Path:
        """Where the jobs' scripts and logs lie."""
        return self.folder / "slurm"

    def run(self) -> End:
        """Have jobs run trials until all are done; a signal ends the jobs, whose trials save first.

        Raises:
            UserError: if no job can be submitted.
        """
        with self._signals():
            try:
                self._get_jobs()
            except NoAnswerError as error:
                raise UserError(f"launcher: SLURM does not answer ({error}); the same command goes on later") from error
            while self.jobs and not self.interrupted:
                self._wait(POLL)
                self._look()
                self.show(self)
            if self.interrupted:
                self._end_jobs()
        self._complete_records()
        failed = bool(self.failures) and not self._done()
        why = f"no worker is left: {'; '.join(self.failures)} (logs: {self.home})" if failed else ""
        return how_it_ended(self.interrupted, why)

    def _done(self) -> bool:
        return self.search.done() >= self.search.n_trials

    def _wait(self, seconds: float) -> None:
        """Wait, but not for a signal: it is obeyed at once."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.interrupted:
            time.sleep(0.2)

    def _get_jobs(self) -> None:
        """Take up the jobs of an earlier call that still run, and submit those that are missing."""
        if not self._done():
            # of the owner alone: submitit's files have the typed words as they are
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.submitter = Submitter(self.home, self.resources, name=f"segtrain-{self.search.study.study_name}")
        for job in self.known.read():
            facts = job_facts(job.id)
            if is_over(facts["JobState"] if facts else None):
                give_up(self, job.id)
            else:
                self.jobs.append(job)
        if self.jobs:
            self.known.write(self.jobs)
            log.info(f"{_named(self.jobs)} of an earlier call still {'run' if len(self.jobs) > 1 else 'runs'}")
        self._submit_missing()
        if self.jobs:
            log.info(f"trials run in {_named(self.jobs)} (logs: {self.home}); Ctrl-C ends them, and their trials save")

    def _submit_missing(self) -> None:
        """Submit as many jobs as SLURM takes; those that it has taken run, and are to be watched.

        Raises:
            UserError: if it takes none.
        """
        while len(self.jobs) < self.count and not self._done():
            try:
                self._submit(losses=0)
            except UserError as error:
                if not self.jobs:
                    raise
                log.warning(f"{error}; the search goes on with {len(self.jobs)} of {self.count} workers")
                return

    def _submit(self, *, losses: int) -> WorkerJob:
        job = WorkerJob(self.submitter.submit(work, self.arguments), losses=losses)
        self.jobs.append(job)
        self.known.write(self.jobs)
        return job

    def _look(self) -> None:
        """See what has become of the jobs."""
        over = self._done()
        for job in list(self.jobs):
            try:
                facts = job_facts(job.id)
            except NoAnswerError as error:
                self._say_silent(error)
                return
            if is_over(facts["JobState"] if facts else None):
                self._ended(job, facts)
            elif facts is not None:
                self._note_restart(job, int(facts.get("Restarts", 0)))
                if over and facts["JobState"] == "PENDING":
                    _scancel(job.id)
        self.silent = False  # it has answered for all

    def _say_silent(self, error: NoAnswerError) -> None:
        if not self.silent:
            log.warning(f"SLURM does not answer ({error}); the jobs may run all the same, and it is asked again")
        self.silent = True

    def _note_restart(self, job: WorkerJob, restarts: int) -> None:
        if restarts > job.restarts:
            job.restarts = restarts
            log.info(f"worker job {job.id} is run again")  # its time was over, or its machine was taken
            give_up(self, job.id, before=restarts)  # those that had no time to save
            self.known.write(self.jobs)

    def _ended(self, job: WorkerJob, facts: dict[str, str] | None) -> None:
        """Note the end of a job: a lost one's trials are asked again, and another comes in its place."""
        give_up(self, job.id)
        self.jobs.remove(job)
        self.known.write(self.jobs)
        state = "" if facts is None else facts["JobState"]
        if self._done() or state == "COMPLETED":
            return
        why = f"worker job {job.id} ended ({why_over(facts)})"
        if (said := self._said(job)) and (facts or {}).get("ExitCode") == "1:0":
            self.failures.append(f"worker job {job.id} failed: {said}")
            log.warning(self.failures[-1])
        elif state == "CANCELLED" or job.losses >= self.retries:
            self.failures.append(why)
            log.warning(f"{why}; none comes in its place")
        else:
            self._replace(job, why)

    def _replace(self, job: WorkerJob, why: str) -> None:
        try:
            other = self._submit(losses=job.losses + 1)
        except UserError as error:  # the other jobs run on
            self.failures.append(f"{why}, and none could be submitted in its place: {error}")
            log.warning(self.failures[-1])
            return
        log.warning(f"{why}; job {other.id} comes in its place")

    def _said(self, job: WorkerJob) -> str:
        """Return the sentence with which a job ended by itself; empty if it has none."""
        lines = [line for path in self.home.glob(f"{job.id}_*_log.out") for line in last_lines(path).splitlines()]
        sentences = [line.removeprefix("segtrain: ") for line in lines if line.startswith("segtrain: ")]
        # a signal's, from before SLURM ran the job again, is no reason of what came then
        sentences = [sentence for sentence in sentences if not sentence.endswith(GO_ON)]
        return sentences[-1] if sentences else ""

    def _end_jobs(self) -> None:
        """Let the trials of all jobs save, and wait until the jobs have ended."""
        if not self.jobs:
            return
        log.info(f"ending {_named(self.jobs)}: their trials save first; Ctrl-C once more does not wait for them")
        asked = {job.id: 0.0 for job in self.jobs}
        while self.jobs and not self.killed:
            for job in list(self.jobs):
                if self._ask_to_end(job, before=asked):
                    give_up(self, job.id)
                    self.jobs.remove(job)
            time.sleep(0.5)
        if self.jobs:
            _scancel(*(job.id for job in self.jobs))
        self.known.write(self.jobs)

    def _ask_to_end(self, job: WorkerJob, *, before: dict[str, float]) -> bool:
        """Ask a job to end, once more if it was asked a while ago; say whether it has."""
        try:
            facts = job_facts(job.id)
        except NoAnswerError as error:
            self._say_silent(error)
            return False
        if facts is None or is_over(facts["JobState"]):
            return True
        if time.monotonic() - before[job.id] > AGAIN:
            before[job.id] = time.monotonic()
            _call("scontrol", "update", f"JobId={job.id}", "Requeue=0")  # else it would ask SLURM to run it again
            _scancel(*(["--signal=TERM"] if facts["JobState"] == "RUNNING" else []), job.id)
        return False


def _named(jobs: Sequence[WorkerJob]) -> str:
    return f"worker {'jobs' if len(jobs) > 1 else 'job'} {', '.join(job.id for job in jobs)}"


def _scancel(*arguments: str) -> None:
    _call("scancel", *arguments)


def _call(*command: str) -> None:
    """Run one of SLURM's commands; the job may have ended in between, which is no error.

    One that SLURM does not answer is none either: who calls it sees that the job still runs, and calls it again.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning(f"SLURM does not answer: {error}")
        return
    if done.returncode:
        log.debug(f"{' '.join(command)}: {done.stderr.strip()}")
