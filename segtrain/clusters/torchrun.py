"""How many devices and machines a Trainer has under torchrun: as many as it started processes for."""

import os
from collections.abc import Mapping
from typing import Any

from segtrain.errors import UserError


def torchrun_layout(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the Trainer's `devices` and `num_nodes` for the processes that torchrun started; nothing without it.

    `devices` may say all (-1, auto), how many are on this machine, or how many there are over all machines.

    Args:
        trainer: the Trainer's arguments.
        environment: in which torchrun's processes find their number.

    Raises:
        UserError: if the arguments say another number than torchrun started.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return {}
    here, everywhere = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
    machines, rest = divmod(everywhere, here)
    if rest:
        raise UserError(f"torchrun: {everywhere} processes, {here} of them here; give every machine as many")
    devices, num_nodes = trainer.get("devices", "auto"), trainer.get("num_nodes")
    if num_nodes not in (None, machines):
        raise UserError(
            f"trainer.num_nodes: {num_nodes}, but torchrun started {here} processes on each of {machines} machines; "
            "leave trainer.num_nodes out"
        )
    chosen = isinstance(devices, list) or "," in str(devices)  # by their numbers
    count = len(devices) if isinstance(devices, list) else len(str(devices).split(",")) if chosen else devices
    if count not in (None, -1, "-1", "auto", here, str(here)) and (chosen or num_nodes or count != everywhere):
        raise UserError(
            f"trainer.devices: {devices}, but torchrun started {here} processes on each of {machines} machines; "
            "give trainer=ddp, or trainer.devices=auto"
        )
    return {"devices": devices if chosen else here, "num_nodes": machines}
