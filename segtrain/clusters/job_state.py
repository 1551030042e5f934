"""What has become of a SLURM job, without accounting? The controller knows, until minutes after the end of a job."""

import re
import subprocess

# of `JobState` in `man squeue`; every other one goes on, or is run again
OVER = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
TIMEOUT = 30.0  # seconds for an answer


class NoAnswerError(RuntimeError):
    """SLURM does not answer now, which says nothing about the job; ask again later."""


def job_facts(job: str) -> dict[str, str] | None:
    """Return what `scontrol show job` says: JobState, Reason, Restarts, ExitCode, ...; None for a forgotten job.

    It needs no accounting (`sacct`). The state is such as "PENDING", "RUNNING" or "FAILED"; a job that was requeued is
    "PENDING" again.

    Args:
        job: its id; "12_3" for task 3 of array job 12.

    Raises:
        NoAnswerError: if `scontrol` is missing, fails or takes too long.
    """
    found = _show(job)
    return found[0] if found else None


def array_facts(array: str) -> dict[str, dict[str, str]]:
    """Return {"12_3": facts} of the tasks of job array "12" by one question; {"12": facts} of a job that is none.

    Those that SLURM has forgotten are left out.

    Raises:
        NoAnswerError: as `job_facts` does.
    """
    found: dict[str, dict[str, str]] = {}
    for facts in _show(array):
        tasks = tasks_of(facts["ArrayTaskId"]) if "ArrayTaskId" in facts else []
        found |= {f"{array}_{task}": facts for task in tasks} or {array: facts}
    return found


def tasks_of(text: str) -> list[int]:
    """Return the tasks that SLURM shows as one: "2,4-6%2" is [2, 4, 5, 6]."""
    tasks: list[int] = []
    for part in text.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        tasks += range(int(first), int(last or first) + 1)
    return tasks


def _show(job: str) -> list[dict[str, str]]:
    """Return the facts of a job, or of each task of an array; none if SLURM has forgotten it."""
    command = ["scontrol", "show", "job", "--oneliner", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"scontrol: {error}") from error
    if "Invalid job id" in done.stderr or re.search(r"^Job \S+ not found$", done.stdout, flags=re.MULTILINE):
        return []
    found = [facts for line in done.stdout.splitlines() if "JobState" in (facts := parse_facts(line))]
    if done.returncode or not found:
        raise NoAnswerError(f"scontrol: {done.stderr.strip() or f'ended with {done.returncode}'}")
    return found


def parse_facts(line: str) -> dict[str, str]:
    """Return the words of one line of `scontrol show job --oneliner`; a value may have spaces, a key has none."""
    words = re.split(r"(?:^|\s)([A-Z][\w/:]*)=", line.strip())
    return dict(zip(words[1::2], (value.strip() for value in words[2::2]), strict=True))


def is_over(state: str | None) -> bool:
    """Say whether a job in this state runs no more, and will not again; so does one that SLURM has forgotten."""
    return state is None or state in OVER


def why_over(facts: dict[str, str] | None) -> str:
    """Return how a job ended, in words: its state, its reason and the signal or status of its command."""
    if facts is None:
        return "SLURM knows nothing of it any more"
    status, _, number = facts.get("ExitCode", "").partition(":")
    said = [f"SLURM's state {facts['JobState']}"]
    reason = facts.get("Reason", "None")
    if reason not in ("None", "NonZeroExitCode") and not reason.startswith("RaisedSignal"):
        said.append(reason)
    if number not in ("", "0"):
        said.append(f"killed by signal {number}")
    elif status not in ("", "0"):
        # how a shell and srun say that a signal ended their command
        said.append(f"killed by signal {int(status) - 128}" if int(status) > 128 else f"exit status {status}")
    return ", ".join(said)
