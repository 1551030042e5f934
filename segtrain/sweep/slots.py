"""Where do trials train: each on GPUs of its own, or on a share of the cores?"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from segtrain.config.devices import device_type, wanted_devices
from segtrain.config.slurm import BY_TASK
from segtrain.errors import UserError
from segtrain.hardware import CORES, num_cores

log = logging.getLogger("segtrain")

VISIBLE = "CUDA_VISIBLE_DEVICES"
# of this process's own run, task, or place among torchrun's processes: a trial's training is none of them
OWN = {
    *("SEGTRAIN_RUN_ID", "RANK", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    *("GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
}
OWN_PREFIXES = ("SLURM_", "TORCHELASTIC_")


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time.

    Attributes:
        number: from 0.
        gpus: the devices of its trial, by number; none where it trains on what it finds.
        threads: of the computations of each of its processes.
        cores: its share, from which a training chooses how many processes load; None for all. They are counted, not
            pinned: another search on the machine would pin the same ones.
    """

    number: int
    gpus: tuple[int, ...]
    threads: int
    cores: int | None = None

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment of a trial's process: without this one's run, torchrun or SLURM task.

        Where CUDA_VISIBLE_DEVICES is set already, the slot's GPUs are the entries of these numbers in it: other
        numbers, UUIDs or the names of a GPU's parts (MIG).
        """
        kept = {k: v for k, v in base.items() if k not in OWN and not k.startswith(OWN_PREFIXES)}
        kept["OMP_NUM_THREADS"] = str(self.threads)
        if self.cores is not None:
            kept[CORES] = str(self.cores)
        if self.gpus:
            entries = [entry.strip() for entry in base[VISIBLE].split(",")] if VISIBLE in base else None
            kept[VISIBLE] = ",".join(str(gpu) if entries is None else entries[gpu] for gpu in self.gpus)
        return kept


def slots_of(cfg: Mapping[str, Any]) -> list[Slot]:
    """Return the slots of this machine for the sweep command's config.

    Raises:
        UserError: if there are fewer GPUs than are asked for.
    """
    trainer = cfg["trainer"]
    on_cpu = trainer.get("accelerator") == "cpu"
    if on_cpu and cfg["gpus"]:
        raise UserError(f"gpus: {cfg['gpus']}, and trainer.accelerator is cpu; leave gpus out, or give trainer=auto")
    available = 0 if on_cpu or not torch.cuda.is_available() else torch.cuda.device_count()
    parts = _mig_instances() if available else 0
    if parts > available and cfg["gpus_per_trial"] > available:
        raise UserError(
            f"gpus_per_trial: {cfg['gpus_per_trial']}, and of the {parts} parts of GPUs (MIG) in {VISIBLE} a process "
            f"sees {available}; give gpus_per_trial={available}"
        )
    return make_slots(
        gpus=cfg["gpus"],
        gpus_per_trial=cfg["gpus_per_trial"],
        slots=cfg["slots"],
        available_gpus=max(available, parts),
        processes=1 if available else wanted_devices(trainer) or 1,
    )


def _mig_instances() -> int:
    """Return how many parts of GPUs (MIG) CUDA_VISIBLE_DEVICES names; 0 if it names anything else.

    Torch does not count them: a process of CUDA sees the first (NVIDIA's MIG User Guide, CUDA Device Enumeration).
    """
    entries = [entry.strip() for entry in os.environ.get(VISIBLE, "").split(",")]
    return len(entries) if all(entry.startswith("MIG-") for entry in entries) else 0


def make_slots(
    *, gpus: Sequence[int] | None, gpus_per_trial: int, slots: int | None, available_gpus: int, processes: int = 1
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        gpus: the devices that may be used; None for all there are.
        gpus_per_trial: of each trial, which has as many processes.
        slots: trials at a time; None for one for each `gpus_per_trial` devices, and one on a machine without GPUs.
        available_gpus: how many torch sees.
        processes: of each trial where there is no GPU.

    Raises:
        UserError: if there are fewer GPUs than are asked for.
    """
    if gpus_per_trial < 1:
        raise UserError(f"gpus_per_trial: {gpus_per_trial} is not a positive number of GPUs")
    if slots is not None and slots < 1:
        raise UserError(f"slots: {slots} is not a positive number of trials")
    chosen = list(range(available_gpus)) if gpus is None else list(gpus)
    _refuse_gpus(chosen, gpus_per_trial, available_gpus)
    places = len(chosen) // gpus_per_trial if chosen else 1
    count = places if slots is None else slots
    cores = num_cores()
    _refuse_sharing(count, places, chosen, gpus_per_trial, cores)
    share = max(1, cores // count)
    threads = max(1, share // (gpus_per_trial if chosen else processes))
    groups = [tuple(chosen[place * gpus_per_trial :][:gpus_per_trial]) for place in range(places)]
    return [Slot(number, groups[number % places] if chosen else (), threads, share) for number in range(count)]


def _refuse_gpus(chosen: list[int], gpus_per_trial: int, available: int) -> None:
    """Refuse GPUs that are not there, twice there, or too few for one trial."""
    if missing := [gpu for gpu in chosen if not 0 <= gpu < available]:
        if not available:
            raise UserError(f"gpus: {chosen}, and torch sees no GPU on this machine; leave it out to train on the CPU")
        by = f"{VISIBLE}={os.environ[VISIBLE]} lets torch see" if VISIBLE in os.environ else "this machine has"
        raise UserError(f"gpus: there is no GPU {missing[0]}; {by} {_gpus(available)}: give numbers below {available}")
    if len(set(chosen)) < len(chosen):
        once = ",".join(map(str, dict.fromkeys(chosen)))
        raise UserError(
            f"gpus: {chosen} names one twice; give gpus={once}, and slots={len(chosen)} for several trials on one"
        )
    if chosen and gpus_per_trial > len(chosen):
        raise UserError(
            f"gpus_per_trial: {gpus_per_trial}, and there are {_gpus(len(chosen))} to use; give {len(chosen)} or fewer"
        )
    if not chosen and gpus_per_trial > 1:
        raise UserError(
            f"gpus_per_trial: {gpus_per_trial}, and trials have no GPU to train on; leave it out "
            "(trainer=ddp_cpu makes each of several processes on the CPU)"
        )
    if rest := len(chosen) % gpus_per_trial:
        log.warning(f"gpus_per_trial: {gpus_per_trial} of {_gpus(len(chosen))} leave {rest} unused")


def _refuse_sharing(count: int, places: int, chosen: list[int], gpus_per_trial: int, cores: int) -> None:
    """Refuse more trials at a time than the GPUs are for, unless each is to have as many as the others."""
    if chosen and count > places:
        if gpus_per_trial > 1:
            raise UserError(
                f"slots: {count} trials of {gpus_per_trial} GPUs, and {_gpus(len(chosen))} have room for {places}; "
                f"give slots={places} or a smaller gpus_per_trial"
            )
        if count % places:
            raise UserError(
                f"slots: {count} trials cannot share {_gpus(places)} evenly; give slots={places}, one trial a GPU, or "
                f"slots={(count // places + 1) * places}"
            )
        log.warning(f"slots: {count} trials at a time on {_gpus(places)}: {count // places} share one and its memory")
    if count > cores:
        log.warning(f"slots: {count} trials at a time share {cores} cores, and slow each other down")


def in_slot(trainer: dict[str, Any], gpus_per_trial: int) -> dict[str, Any]:
    """Return a Trainer's arguments as they are in a trial, whose processes see its own GPUs alone.

    Raises:
        UserError: if it takes others than a trial has.
    """
    devices, wanted = trainer.get("devices", "auto"), wanted_devices(trainer)
    if device_type(trainer) != "cuda" or devices == BY_TASK:
        return trainer
    if isinstance(devices, list) or "," in str(devices):
        raise UserError(
            f"trainer.devices: {devices} are GPUs by their numbers, which each trial has others of; give trainer=ddp, "
            "and gpus= for those that the search may use"
        )
    if wanted not in (None, gpus_per_trial) and gpus_per_trial > 1:
        raise UserError(
            f"gpus_per_trial: {gpus_per_trial}, and trainer.devices: {devices} trains on another number of them; give "
            "trainer=ddp or trainer=fsdp, which take all that a trial has"
        )
    if wanted not in (None, gpus_per_trial):
        raise UserError(
            f"trainer.devices: {devices}, and each trial has one GPU; give trainer=auto, or gpus_per_trial={wanted}"
        )
    return {**trainer, "devices": gpus_per_trial}


def _gpus(count: int) -> str:
    return f"{count} GPU" + ("" if count == 1 else "s")
