"""jobs.json: which SLURM jobs run the trials of a search, so that another call of its command takes them up."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from segtrain.clusters.job_state import is_over, job_facts
from segtrain.errors import UserError
from segtrain.jobs import without_password
from segtrain.run_folder import write_text


@dataclass
class WorkerJob:
    """A job that runs trials.

    Attributes:
        id: SLURM's.
        restarts: how often SLURM has run it again.
        losses: how many jobs before it, in whose place it came, were lost.
    """

    id: str
    restarts: int = 0
    losses: int = 0


class KnownJobs:
    """The jobs that were submitted by a search's command.

    Args:
        home: the folder of jobs.json.
        arguments: of the command, as they were typed.
    """

    def __init__(self, home: Path, arguments: Sequence[str]) -> None:
        self.path = home / "jobs.json"
        # by which the jobs of one call differ from another's; passwords are not among them
        self.arguments = sorted(without_password(word) for word in arguments if not word.startswith("slurm."))

    def read(self) -> list[WorkerJob]:
        """Return the jobs of earlier calls, which may be over.

        Raises:
            UserError: if one that runs is of another command.
        """
        if not self.path.is_file():
            return []
        known = json.loads(self.path.read_text(encoding="utf-8"))
        jobs = [WorkerJob(**job) for job in known["jobs"]]
        if known["arguments"] != self.arguments:
            for job in jobs:
                if not is_over((job_facts(job.id) or {}).get("JobState")):
                    raise UserError(
                        f"launcher: slurm job {job.id} of this search still runs, by another command: "
                        f"{' '.join(known['arguments'])}; give the same, or end it: scancel {job.id}"
                    )
        return jobs

    def write(self, jobs: Sequence[WorkerJob]) -> None:
        """Note the jobs."""
        known = {"arguments": self.arguments, "jobs": [asdict(job) for job in jobs]}
        write_text(self.path, json.dumps(known, indent=2) + "\n")
