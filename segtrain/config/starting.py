"""Can a run start on the devices that its Trainer asks for, and with as many processes?"""

from typing import Any

from segtrain.clusters.slurm import this_task
from segtrain.clusters.torchrun import torchrun_layout
from segtrain.config.accumulation import division_problems
from segtrain.config.capabilities import capability_problems
from segtrain.config.devices import wanted_devices
from segtrain.config.sharding import sharding_problems
from segtrain.config.slurm import BY_TASK, slurm_problems
from segtrain.errors import UserError


def start_problems(cfg: dict[str, Any], *, multirun: bool) -> list[str]:
    """Refuse devices that are not there, that lack what is asked of them, and processes that nobody started.

    Args:
        cfg: the resolved config.
        multirun: the run is one of a sweep's jobs.
    """
    import torch

    trainer, scores = cfg["trainer"], isinstance(cfg["checkpoint"], str)
    try:
        cfg = {**cfg, "trainer": {**trainer, **torchrun_layout(trainer)}}
    except UserError as error:
        return [str(error)]
    tasks = slurm_problems(trainer, visible_gpus=torch.cuda.device_count(), scores=scores)
    devices = tasks or _device_problems(cfg, multirun=multirun)
    return devices + capability_problems(trainer, evaluation=scores) + sharding_problems(cfg)


def _device_problems(cfg: dict[str, Any], *, multirun: bool) -> list[str]:
    """Refuse a device that this machine does not have, DDP processes that a sweep would start, an uneven division."""
    import torch
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    trainer = cfg["trainer"]
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    strategy = trainer.get("strategy", "auto")
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not cuda and not (accelerator == "gpu" and mps):
        return [
            f"trainer.accelerator: {accelerator!r}, but torch sees no GPU on this machine; "
            "use trainer=cpu or trainer=auto (trainer.accelerator=cpu on a checkpoint; `segtrain env` shows devices)"
        ]
    if accelerator == "mps" and not mps:
        return ["trainer.accelerator: 'mps', but this machine has no Apple GPU that torch can use; use trainer=cpu"]
    wanted = wanted_devices(trainer)
    if wanted == 0:
        return [f"trainer.devices: {devices} asks for no device; give 1 or more"]
    on_cuda = accelerator in ("gpu", "cuda") or (accelerator == "auto" and cuda > 0)
    available = cuda if on_cuda else 1
    launched = TorchElasticEnvironment.detect()
    on_cpu = not on_cuda and (launched or (accelerator == "cpu" and strategy != "auto"))
    if wanted is not None and wanted > available and not on_cpu:
        kind = "GPU" if on_cuda else "device (the CPU)" if not mps else "device"
        return [
            f"trainer.devices: {devices} asked for, but this machine has {available} {kind}; "
            f"use trainer.devices={available}, or trainer=ddp_cpu to try several processes on a CPU"
        ]
    task = this_task() if devices == BY_TASK else None
    count = task.count if task is not None else (wanted or available) * (trainer.get("num_nodes") or 1)
    if multirun and task is None and count > 1:
        return [
            "trainer.devices: a sweep in one process cannot start several processes a job (their settings would "
            "differ between the ranks); use trainer.devices=1, hydra/launcher=slurm (each job on its own), "
            "or start each job by itself"
        ]
    return division_problems(cfg, count)
