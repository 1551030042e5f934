"""Is a process placed among the tasks as SLURM says, refused where nobody started it, and its job asked for once?"""

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from segtrain.build import trainer
from segtrain.clusters.slurm import Task, first_machine, requeue_job, tasks_per_node, this_task
from segtrain.clusters.slurm_ranks import SlurmRanks, task_device
from segtrain.config.slurm import slurm_problems
from segtrain.data import loader
from segtrain.hardware import num_cores

# what SLURM 22.05 sets in `sbatch --nodes=2 --ntasks-per-node=2`: in its script, and in the third task of its srun
SCRIPT = {
    "SLURM_JOB_ID": "6",
    "SLURM_JOB_NAME": "job.sh",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_CPUS_ON_NODE": "8",
}
TASK = {
    **SCRIPT,
    "SLURM_PROCID": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "n[1-2]",
}
ALONE = {
    **TASK,
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1",
    "SLURM_STEP_NODELIST": "n1",
}
TORCHRUN = {
    **TASK,
    "TORCHELASTIC_RUN_ID": "x",
    "LOCAL_WORLD_SIZE": "1",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}
BY_TASK = {"devices": "slurm", "accelerator": "cpu"}


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process look like one of SLURM's."""

    def become(environment: dict[str, str]) -> None:
        for name in [*os.environ]:
            if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in TORCHRUN:
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return become


@pytest.mark.parametrize(
    ("text", "counts"),
    [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1,2(x2),3", [1, 2, 2, 3]), ("10(x2)", [10, 10])],
)
def test_tasks_of_each_machine_are_read_as_slurm_writes_them(text: str, counts: list[int]) -> None:
    assert tasks_per_node(text) == counts


@pytest.mark.parametrize(
    ("machines", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu[01-04,07],login1", "gpu01"),
        ("gpu[12]", "gpu12"),
        ("a1,b[1-2]", "a1"),
        ("rack[3-4]n[11,15]-ib", "rack3n11-ib"),
    ],
)
def test_the_first_machine_of_a_list_is_found(machines: str, first: str) -> None:
    assert first_machine(machines) == first


def test_a_task_knows_its_place_from_the_step_and_not_from_the_job() -> None:
    assert this_task(TASK) == Task(rank=2, count=4, local_rank=0, neighbours=2, machines="n[1-2]", cores=4, gpus=None)
    part = {**TASK, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_GPUS_ON_NODE": "1"}
    assert this_task(part) == Task(rank=2, count=3, local_rank=0, neighbours=1, machines="n[1-2]", cores=8, gpus=1)


@pytest.mark.parametrize("environment", [{}, SCRIPT, TORCHRUN], ids=["no job", "script", "torchrun"])
def test_what_srun_did_not_start_is_no_task(environment: dict[str, str]) -> None:
    assert this_task(environment) is None


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, r"it runs outside of any SLURM job"),
        (SCRIPT, r"job 6 runs it without srun"),
        (TORCHRUN, r"torchrun started it"),
    ],
)
def test_a_run_by_tasks_that_srun_did_not_start_is_refused_with_the_line_to_type(
    environment: dict[str, str], reason: str
) -> None:
    (problem,) = slurm_problems(BY_TASK, visible_gpus=0, environment=environment)
    assert f"({reason}); use srun --kill-on-bad-exit=1 segtrain train trainer=slurm ... in a job with" in problem


def test_a_shell_inside_a_job_is_refused_and_a_step_started_from_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = {**ALONE, "SLURM_PTY_PORT": "4", "SLURM_JOB_NAME": "bash"}
    assert slurm_problems(BY_TASK, visible_gpus=0, environment=shell) == []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert "it runs in a shell inside job 6" in slurm_problems(BY_TASK, visible_gpus=0, environment=shell)[0]
    assert slurm_problems(BY_TASK, visible_gpus=0, environment={**TASK, "SLURM_PTY_PORT": "4"}) == []


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (BY_TASK, {}, None),
        (
            {"devices": 1},
            {},
            r"srun started 4 tasks, and this Trainer would not know of the others; give trainer=slurm",
        ),
        ({**BY_TASK, "num_nodes": 2}, {}, "trainer.num_nodes: 2 is not needed; srun says it"),
        ({"devices": "slurm"}, {}, "this task sees no GPU; ask SLURM for them, such as --gpus-per-node=2"),
        ({"devices": "slurm"}, {"visible_gpus": 2}, None),
        ({"devices": "slurm"}, {"visible_gpus": 1}, None),  # its own: --gpus-per-task=1
        ({"devices": "slurm"}, {"visible_gpus": 8}, "2 tasks on this machine, which has 8 GPUs for them"),
        ({"devices": "slurm"}, {"visible_gpus": 2, "gpus": "2"}, None),
        ({"devices": "slurm"}, {"visible_gpus": 1, "gpus": "2"}, None),
        (
            {"devices": "slurm"},
            {"visible_gpus": 1, "gpus": "1"},
            "give as many tasks as GPUs, such as --ntasks-per-nod",
        ),
        ({"devices": "slurm"}, {"visible_gpus": 2, "gpus": "4"}, "has 4 GPUs for them, 2 of them seen by this one"),
    ],
)
def test_tasks_and_devices_that_do_not_fit_are_refused(
    arguments: dict[str, Any], options: dict[str, Any], sentence: str | None
) -> None:
    gpus = options.pop("gpus", None)
    environment = TASK if gpus is None else {**TASK, "SLURM_GPUS_ON_NODE": gpus}
    problems = slurm_problems(arguments, **{"visible_gpus": 0, **options}, environment=environment)
    assert [sentence in problem for problem in problems] == ([] if sentence is None else [True])  # type: ignore[operator]


def test_one_task_is_any_trainers_and_a_checkpoint_is_scored_without_tasks_too() -> None:
    assert slurm_problems({"devices": 4}, visible_gpus=4, environment=ALONE) == []
    assert slurm_problems({"devices": "slurm"}, visible_gpus=0, scores=True, environment={}) == []
    assert slurm_problems(BY_TASK, visible_gpus=0, scores=True, environment=TORCHRUN) != []


def build(folder: Path, *, evaluation: bool = False, **arguments: Any) -> Any:
    node = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", **arguments}
    cfg = {"trainer": node, "deterministic": "none"}
    return trainer.build_trainer(cfg, folder, callbacks=[], evaluation=evaluation)


def test_every_task_is_a_rank_with_a_device(process: Any, tmp_path: Path) -> None:
    process(TASK)
    built = build(tmp_path, devices="slurm", strategy="ddp")
    environment = built.strategy.cluster_environment
    assert isinstance(environment, SlurmRanks)
    assert (built.world_size, built.global_rank, built.is_global_zero, built.num_devices) == (4, 2, False, 1)
    assert built.strategy.root_device.type == "cpu"
    assert built.strategy.distributed_sampler_kwargs == {"num_replicas": 4, "rank": 2}
    assert (environment.main_address, environment.main_port) == ("n1", 15042)
    assert environment.creates_processes_externally


def test_tasks_of_one_machine_meet_without_its_name_and_at_the_address_that_is_given(
    process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process({**ALONE, "SLURM_STEP_ID": "3", "SLURM_JOB_ID": "123456"})
    task = this_task()
    assert task is not None
    ranks = SlurmRanks(task)
    assert (ranks.main_address, ranks.main_port) == ("127.0.0.1", 15000 + (7 * 123456 + 3) % 10000)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "77")
    assert (ranks.main_address, ranks.main_port) == ("10.0.0.1", 77)


@pytest.mark.parametrize(("visible", "local_rank", "device"), [(4, 3, 3), (1, 3, 0), (1, 0, 0)])
def test_a_tasks_gpu_is_its_own_or_the_one_of_its_number(
    visible: int, local_rank: int, device: int, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process({**TASK, "SLURM_LOCALID": str(local_rank)})
    task = this_task()
    assert task is not None
    assert task_device(task, visible=visible) == device
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: visible)
    node: dict[str, Any] = {"devices": "slurm", "accelerator": "gpu"}
    assert isinstance(trainer._place_in_slurm(node)[0], SlurmRanks)
    assert (node["devices"], node["num_nodes"]) == ([device], 4)


@pytest.mark.parametrize(
    ("environment", "arguments", "kind"),
    [
        (SCRIPT, {"devices": 2, "strategy": "ddp"}, LightningEnvironment),  # starts its own processes
        (ALONE, {"devices": 2, "strategy": "ddp"}, LightningEnvironment),
        (TORCHRUN, {"devices": 1, "strategy": "ddp"}, TorchElasticEnvironment),
        ({}, {"devices": 2, "strategy": "ddp"}, LightningEnvironment),
        ({}, {"devices": "slurm", "strategy": "ddp", "evaluation": True}, LightningEnvironment),
    ],
)
def test_ranks_come_from_slurm_only_where_srun_starts_them(
    environment: dict[str, str], arguments: dict[str, Any], kind: type, process: Any, tmp_path: Path
) -> None:
    process(environment)
    built = build(tmp_path, **arguments)
    assert type(built.strategy.cluster_environment) is kind
    assert built.world_size == (2 if arguments["devices"] == 2 else 1)


def test_a_task_takes_its_share_of_the_cores_and_shares_it_with_no_other_device(
    process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64))
    process({**TASK, "SLURM_CPUS_ON_NODE": "16"})
    assert num_cores() == 8
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert loader.choose_workers() == 7
    process({})
    assert num_cores() == 64


def scontrol(folder: Path, *, state: str = "RUNNING", status: int = 0) -> None:
    """Put a `scontrol` into a folder that knows a job and writes down what else it was asked."""
    path = folder / "scontrol"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = show ]; then echo "JobId=$3\n   JobState={state} Reason=None"; exit 0; fi\n'
        f'echo "$@" >> "{folder}/asked"\necho refused >&2\nexit {status}\n'
    )
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [(SCRIPT, "requeue 6"), ({**SCRIPT, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 7_3")],
)
def test_a_job_is_asked_for_by_its_id(
    environment: dict[str, str], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    scontrol(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    requeue_job(environment)
    assert (tmp_path / "asked").read_text().strip() == asked
    assert f"SLURM runs job {asked.split()[1]} again" in caplog.text


@pytest.mark.parametrize("there", [True, False])
def test_a_refusal_is_said_and_is_no_crash(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    if there:
        scontrol(tmp_path, status=1)
    monkeypatch.setenv("PATH", str(tmp_path) if not there else f"{tmp_path}:/bin:/usr/bin")
    requeue_job(SCRIPT)
    assert "SLURM does not run job 6 again: " in caplog.text
    assert ("refused" in caplog.text) is there


def test_a_job_that_is_being_ended_is_not_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    scontrol(tmp_path, state="COMPLETING")  # what SLURM says of a job from `scancel` on
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    requeue_job(SCRIPT)
    assert not (tmp_path / "asked").exists()
    assert "SLURM is ending job 6 itself (COMPLETING)" in caplog.text
