"""What can the devices of a training not do?"""

from typing import Any

from segtrain.config.devices import device_type
from segtrain.config.sharding import shards

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")
LONG = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's shorthands


def capability_problems(trainer: dict[str, Any], *, evaluation: bool = False) -> list[str]:
    """Return a sentence for a precision, or a synchronisation, that the Trainer's devices do not have.

    Args:
        trainer: the Trainer's arguments.
        evaluation: of which only those that choose devices and precision are used.
    """
    device = device_type(trainer)
    return _precision_problems(trainer, device) + ([] if evaluation else _norm_problems(trainer, device))


def _precision_problems(trainer: dict[str, Any], device: str) -> list[str]:
    import torch

    given = trainer.get("precision")
    precision = LONG.get(str(given), str(given))
    if given is None or precision == "auto":
        return []
    if precision not in PRECISIONS:
        return [f"trainer.precision: {given!r} is none of {', '.join(PRECISIONS)}"]
    lacking = ""
    if device == "cpu" and precision == "16-mixed":
        lacking = "trains in float16, and a CPU has bfloat16 alone; give bf16-mixed, 32-true or auto"
    elif device == "mps" and precision == "64-true":
        lacking = "is not to be had on an Apple GPU; give 32-true"
    elif (device, precision) == ("cuda", "bf16-mixed") and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return []
        lacking = f"needs bfloat16, which {torch.cuda.get_device_name()} lacks; give 16-mixed, 32-true or auto"
    return [f"trainer.precision: {given} {lacking}"] if lacking else []


def _norm_problems(trainer: dict[str, Any], device: str) -> list[str]:
    if not trainer.get("sync_batchnorm") or device == "cuda" or shards(trainer):
        return []  # trainer=fsdp looks whether the network has any
    return [
        f"trainer.sync_batchnorm: true, and torch synchronises batch norms on GPUs alone, not on {device}; give "
        "trainer.sync_batchnorm=false, and norm=group for statistics that need no synchronising"
    ]
