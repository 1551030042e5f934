"""Where do trials train: each on GPUs of its own, or on a share of the cores?"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segtrain.errors import UserError
from segtrain.hardware import num_cores


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time.

    Attributes:
        number: from 0.
        gpus: the devices of its trial, by number; none where it trains on what it finds.
        threads: of its computations.
    """

    number: int
    gpus: tuple[int, ...]
    threads: int

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment of a trial's process: without this one's run, torchrun or SLURM task."""
        own = ("SEGTRAIN_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
        kept = {k: v for k, v in base.items() if k not in own and not k.startswith(("SLURM_", "TORCHELASTIC_"))}
        kept["OMP_NUM_THREADS"] = str(self.threads)
        if self.gpus:
            kept["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.gpus))
        return kept


def make_slots(
    *, gpus: Sequence[int] | None, gpus_per_trial: int, slots: int | None, available_gpus: int
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        gpus: the devices that may be used; None for all there are.
        gpus_per_trial: of each trial.
        slots: trials at a time; None for one for each `gpus_per_trial` devices, and one on a machine without GPUs.
        available_gpus: how many torch sees.

    Raises:
        UserError: if there are fewer GPUs than are asked for.
    """
    if gpus_per_trial < 1:
        raise UserError(f"gpus_per_trial: {gpus_per_trial} is not a positive number of GPUs")
    if slots is not None and slots < 1:
        raise UserError(f"slots: {slots} is not a positive number of trials")
    chosen = list(range(available_gpus)) if gpus is None else list(gpus)
    if missing := [gpu for gpu in chosen if not 0 <= gpu < available_gpus]:
        raise UserError(f"gpus: this machine has {available_gpus} GPUs, numbered from 0, and no {missing[0]}")
    if len(set(chosen)) < len(chosen):
        raise UserError(f"gpus: {chosen} names one twice; give slots={len(chosen)} for several trials on one GPU")
    if chosen and gpus_per_trial > len(chosen):
        raise UserError(f"gpus_per_trial: {gpus_per_trial}, and there are {len(chosen)} GPUs to use")
    if not chosen and gpus_per_trial > 1:
        raise UserError(f"gpus_per_trial: {gpus_per_trial}, and this machine has no GPU; leave it out")
    places = len(chosen) // gpus_per_trial if chosen else 1
    count = places if slots is None else slots
    if chosen and gpus_per_trial > 1 and count > places:
        raise UserError(
            f"slots: {count} trials of {gpus_per_trial} GPUs, and {len(chosen)} GPUs have room for {places}"
        )
    threads = max(1, num_cores() // count)
    groups = [tuple(chosen[place * gpus_per_trial :][:gpus_per_trial]) for place in range(places)]
    return [Slot(number, groups[number % places] if chosen else (), threads) for number in range(count)]
