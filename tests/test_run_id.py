"""Do all processes of a run, and no others, get the same id?"""

import os
import re
import subprocess
import sys

import pytest

from segtrain.errors import UserError
from segtrain.run_id import ensure_run_id, global_rank, requeued

OWN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def test_a_run_that_a_user_starts_gets_an_id_of_time_and_chance() -> None:
    ids = {ensure_run_id({}) for _ in range(20)}
    assert all(OWN.fullmatch(name) for name in ids)
    assert len(ids) > 15


def test_the_id_is_set_once_and_kept() -> None:
    environment: dict[str, str] = {}
    first = ensure_run_id(environment)
    assert environment == {"SEGTRAIN_RUN_ID": first}
    assert ensure_run_id(environment) == first


def test_processes_that_a_run_starts_inherit_its_id() -> None:
    environment = {**os.environ, "SEGTRAIN_RUN_ID": "parent"}
    code = "from segtrain.run_id import ensure_run_id; print(ensure_run_id())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "parent"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TORCHELASTIC_RUN_ID": "my-run"}, "my-run"),
        ({"SLURM_JOB_ID": "123", "SLURM_PROCID": "5"}, "slurm-123"),
        ({"SLURM_JOB_ID": "123", "SLURM_PROCID": "0", "SLURM_STEP_ID": "2"}, "slurm-123-2"),
        ({"TORCHELASTIC_RUN_ID": "t", "SLURM_JOB_ID": "123", "SLURM_PROCID": "0"}, "t"),
    ],
)
def test_launchers_give_every_process_the_same_id(environment: dict[str, str], expected: str) -> None:
    assert [ensure_run_id(dict(environment)) for _ in range(2)] == [expected] * 2


def test_a_shell_on_a_slurm_node_is_not_a_slurm_process() -> None:
    assert OWN.fullmatch(ensure_run_id({"SLURM_JOB_ID": "123"}))


def test_a_shell_inside_a_job_gives_each_run_an_id_of_its_own() -> None:
    shell = {"SLURM_JOB_ID": "123", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    assert ensure_run_id(dict(shell)) == "slurm-123-0"
    assert OWN.fullmatch(ensure_run_id({**shell, "SLURM_PTY_PORT": "4"}))  # `srun --pty bash`


def test_torchrun_without_an_id_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"torchrun: this run has no id.*--standalone.*--rdzv-id=NAME"):
        ensure_run_id({"TORCHELASTIC_RUN_ID": "none"})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"SLURM_PROCID": "7"}, 7),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, 1),  # started by Lightning inside one task of SLURM's
    ],
)
def test_the_rank_is_known_before_the_trainer_exists(environment: dict[str, str], expected: int) -> None:
    assert global_rank(environment) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_RESTART_COUNT": "1"}, True),
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_RESTART_COUNT": "0"}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0"}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "2"}, False),  # no task of the job: a shell in it
        ({}, False),
        ({"SEGTRAIN_AGAIN": "1"}, True),
        ({"SEGTRAIN_AGAIN": "0"}, False),
    ],
)
def test_a_run_is_one_more_try_where_slurm_counts_a_restart_or_a_search_says_so(
    environment: dict[str, str], expected: bool
) -> None:
    assert requeued(environment) is expected
