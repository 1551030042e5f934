"""Is what `scontrol show job` prints understood: that of jobs that run, wait, ended, are forgotten, or no answer?"""

import os
from pathlib import Path

import pytest

from segtrain.clusters.job_state import (
    NoAnswerError,
    array_facts,
    is_over,
    job_facts,
    parse_facts,
    tasks_of,
    why_over,
)

# of SLURM 22.05, shortened
RUNNING = (
    "JobId=2 ArrayJobId=1 ArrayTaskId=0 ArrayTaskThrottle=2 JobName=my grid UserId=me(1000) QOS=(null) "
    "JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=1 ExitCode=0:0 CPUs/Task=1 "
    "ReqB:S:C:T=0:0:*:* TRES=cpu=1,node=1,billing=1 StdOut=/home/me/a b/2.out Power="
)
PENDING = RUNNING.replace("RUNNING Reason=None", "PENDING Reason=JobArrayTaskLimit")
KILLED = RUNNING.replace("RUNNING Reason=None", "FAILED Reason=NonZeroExitCode").replace("Code=0:0", "Code=137:0")
CANCELLED = RUNNING.replace("RUNNING", "CANCELLED").replace("Code=0:0", "Code=0:15")


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a `scontrol` that a test writes."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "scontrol"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


def says(path: Path, text: str = "", *, errors: str = "", status: int = 0) -> None:
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho '{errors}' >&2\nexit {status}\n")


@pytest.mark.parametrize(
    ("line", "state", "over"),
    [
        (RUNNING, "RUNNING", False),
        (PENDING, "PENDING", False),
        (KILLED, "FAILED", True),
        (CANCELLED, "CANCELLED", True),
    ],
)
def test_a_jobs_state_is_read_without_accounting(scontrol: Path, line: str, state: str, over: bool) -> None:
    says(scontrol, line)
    assert (job_facts("1_0") or {})["JobState"] == state
    assert is_over(state) is over


def test_values_may_have_spaces_and_signs() -> None:
    facts = parse_facts(RUNNING)
    assert facts["JobName"] == "my grid"
    assert facts["StdOut"] == "/home/me/a b/2.out"
    assert facts["TRES"] == "cpu=1,node=1,billing=1"
    assert facts["ReqB:S:C:T"] == "0:0:*:*"
    assert facts["Restarts"] == "1"
    assert facts["Power"] == ""


@pytest.mark.parametrize(
    ("text", "errors"),
    [("", "slurm_load_jobs error: Invalid job id specified"), ("Job 1_77 not found", "")],
)
def test_a_job_that_slurm_has_forgotten_has_no_state_and_is_over(scontrol: Path, text: str, errors: str) -> None:
    says(scontrol, text, errors=errors, status=1)
    assert job_facts("1_77") is None
    assert is_over(None)


def test_a_slurm_that_does_not_answer_is_no_end_of_a_job(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(scontrol, errors="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", status=1)
    with pytest.raises(NoAnswerError, match="Unable to contact slurm controller"):
        job_facts("1")
    scontrol.unlink()
    monkeypatch.setenv("PATH", str(scontrol.parent))
    with pytest.raises(NoAnswerError, match="scontrol"):
        job_facts("1")


def test_how_a_job_ended_is_said_in_words() -> None:
    assert why_over(parse_facts(KILLED)) == "SLURM's state FAILED, killed by signal 9"
    assert why_over(parse_facts(CANCELLED)) == "SLURM's state CANCELLED, killed by signal 15"
    assert why_over(parse_facts(KILLED.replace("137:0", "1:0"))) == "SLURM's state FAILED, exit status 1"
    timeout = RUNNING.replace("RUNNING Reason=None", "TIMEOUT Reason=TimeLimit")
    assert why_over(parse_facts(timeout)) == "SLURM's state TIMEOUT, TimeLimit"
    assert why_over(None) == "SLURM knows nothing of it any more"


def test_all_tasks_of_an_array_are_known_by_one_question(scontrol: Path) -> None:
    says(scontrol, "\n".join([PENDING.replace("TaskId=0", "TaskId=2,4-5%2"), RUNNING, KILLED.replace("Id=0", "Id=1")]))
    found = array_facts("1")
    assert {name: facts["JobState"] for name, facts in found.items()} == {
        "1_2": "PENDING",
        "1_4": "PENDING",
        "1_5": "PENDING",
        "1_0": "RUNNING",
        "1_1": "FAILED",
    }
    says(scontrol, RUNNING.replace("ArrayJobId=1 ArrayTaskId=0 ArrayTaskThrottle=2 ", ""))
    assert list(array_facts("2")) == ["2"], "one job is no array"
    says(scontrol, errors="slurm_load_jobs error: Invalid job id specified", status=1)
    assert array_facts("1") == {}


@pytest.mark.parametrize(("text", "tasks"), [("3", [3]), ("0-2%2", [0, 1, 2]), ("1,4-5,9%1", [1, 4, 5, 9])])
def test_tasks_shown_as_one_are_told_apart(text: str, tasks: list[int]) -> None:
    assert tasks_of(text) == tasks
