"""Is a run started as SLURM's tasks where its Trainer expects it, with a device for each?"""

import os
from collections.abc import Mapping
from typing import Any

from segtrain.clusters.slurm import START, Task, this_task, why_no_task

BY_TASK = "slurm"  # of trainer.devices: one for each task of srun


def slurm_problems(
    trainer: dict[str, Any],
    *,
    visible_gpus: int,
    scores: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """Return what is wrong between a Trainer's arguments and the tasks that SLURM started.

    Args:
        trainer: the Trainer's arguments.
        visible_gpus: how many GPUs this process sees.
        scores: the command scores a checkpoint, with any number of processes alike; without tasks it is one.
        environment: of the process.
    """
    task = this_task(environment)
    if trainer.get("devices") != BY_TASK:
        return [] if task is None or task.count == 1 else [_not_by_task(task)]
    if (reason := why_no_task(environment)) is not None:
        return [] if scores and "TORCHELASTIC_RUN_ID" not in environment else [_no_task(reason)]
    assert task is not None
    problems = []
    if trainer.get("num_nodes", 1) != 1:
        problems.append(f"trainer.num_nodes: {trainer['num_nodes']} is not needed; srun says it (srun --nodes=...)")
    if trainer.get("accelerator") != "cpu":
        problems += _gpu_problems(task, visible_gpus)
    return problems


def _not_by_task(task: Task) -> str:
    return (
        f"trainer.devices: srun started {task.count} tasks, and this Trainer would not know of the others; give "
        "trainer=slurm (trainer.devices=slurm on a checkpoint), or srun --ntasks=1"
    )


def _no_task(reason: str) -> str:
    return (
        f"trainer.devices: 'slurm' is one for each task of srun, which did not start this process ({reason}); use "
        f"{START} in a job with --ntasks-per-node, or trainer=auto or trainer=ddp (trainer.devices=1 on a checkpoint)"
    )


def _gpu_problems(task: Task, visible: int) -> list[str]:
    """Refuse GPUs that no task has and tasks that have no GPU; a task that sees one alone has its own."""
    if not visible:
        return [
            "trainer.accelerator: this task sees no GPU; ask SLURM for them, such as --gpus-per-node="
            f"{task.neighbours}, or give trainer.accelerator=cpu trainer.sync_batchnorm=false"
        ]
    gpus = task.gpus if task.gpus is not None else visible if visible > 1 else task.neighbours
    if gpus == task.neighbours and visible in (1, task.neighbours):
        return []
    return [
        f"trainer.devices: srun started {task.neighbours} tasks on this machine, which has {gpus} GPUs for them, "
        f"{visible} of them seen by this one; give as many tasks as GPUs, such as --ntasks-per-node={gpus} "
        f"--gpus-per-node={gpus}"
    ]
