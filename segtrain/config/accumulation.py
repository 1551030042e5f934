"""Can the images of an optimizer step be divided over devices and parts as the config asks?"""

from typing import Any

from segtrain.errors import UserError


def accumulation_problems(cfg: dict[str, Any]) -> list[str]:
    """Refuse what the loader cannot follow: it must know before training how many batches make an optimizer step."""
    parts = cfg["trainer"].get("accumulate_grad_batches", 1)
    problems = [
        f"callbacks.{name}: changes how many batches make an optimizer step while training; take it out and give one "
        "trainer.accumulate_grad_batches"
        for name, node in (cfg["callbacks"] or {}).items()
        if isinstance(node, dict) and str(node.get("_target_")).endswith(".GradientAccumulationScheduler")
    ]
    if isinstance(parts, int) and parts < 1:  # another type is one of `target_problems`
        problems.append(f"trainer.accumulate_grad_batches: {parts} is not a positive number of parts; 1 is no division")
    return problems


def division_problems(cfg: dict[str, Any], devices: int) -> list[str]:
    """Refuse an optimizer step whose images cannot be divided over this many devices and the step's parts."""
    from segtrain.data.steps import images_at_a_time

    images, parts = cfg["loader"]["batch_size"], cfg["trainer"].get("accumulate_grad_batches", 1)
    trains = isinstance(cfg.get("checkpoint"), dict)  # else it is the path of one, which is scored
    if not trains or images < 1 or not isinstance(parts, int) or parts < 1:
        return []
    pairs = bool((cfg["augmentation"] or {}).get("mix"))
    try:
        images_at_a_time(images, devices=devices, accumulation=parts, pairs=pairs)
    except UserError as error:
        return [str(error)]
    return []
