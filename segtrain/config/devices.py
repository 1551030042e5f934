"""Which devices do a Trainer's arguments ask for?"""

from typing import Any


def device_type(trainer: dict[str, Any]) -> str:
    """Return on what a Trainer's arguments would train on this machine: cuda, mps or cpu."""
    import torch

    accelerator = trainer.get("accelerator", "auto")
    if accelerator in ("cpu", "cuda", "mps"):
        return str(accelerator)
    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() or accelerator == "gpu" else "cpu"


def wanted_devices(trainer: dict[str, Any]) -> int | None:
    """Return how many devices of a machine are asked for; None for "auto" and -1, all there are, and for SLURM's."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str):
        if not devices.isdigit():
            return devices.count(",") + 1 if "," in devices else None
        return int(devices)
    return None if devices is None or devices < 0 else devices
