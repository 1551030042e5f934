"""Which settings of optimizer, schedule and learning rates do not go together?"""

import inspect
from typing import Any

from segtrain.config.targets import accepted_arguments, locate
from segtrain.hardware import precision_of


def optimization_problems(cfg: dict[str, Any]) -> list[str]:
    """Return a sentence for every combination that would end a training, or be without effect."""
    optimizer = _located(cfg["optimizer"])
    return (
        _group_problems(cfg)
        + _optimizer_problems(cfg)
        + _warmup_problems(cfg["scheduler"] or {})
        + _cycle_problems(cfg["scheduler"] or {}, optimizer)
        + (_plateau_problems(cfg) if trains_with_plateau(cfg) else [])
    )


def trains_with_plateau(cfg: dict[str, Any]) -> bool:
    """Say whether the config's schedule is one that waits for a better score."""
    return is_plateau(_located(cfg["scheduler"]))


def is_plateau(target: Any) -> bool:
    """Say whether what makes the schedule is a class that waits for a better score."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return inspect.isclass(target) and issubclass(target, ReduceLROnPlateau)


def _located(node: Any) -> Any:
    """Return what a node's `_target_` names, None where there is none; `target_problems` says what is wrong."""
    try:
        return locate(str(node["_target_"]))
    except (ImportError, KeyError, TypeError):
        return None


def _group_problems(cfg: dict[str, Any]) -> list[str]:
    groups = cfg["param_groups"]
    problems = []
    if groups["encoder_lr_factor"] < 0:
        problems.append(f"param_groups.encoder_lr_factor: {groups['encoder_lr_factor']} is negative; give 0 or more")
    if not 0 < groups["layer_decay"] <= 1:
        problems.append(f"param_groups.layer_decay: {groups['layer_decay']} is not above 0 to 1; 1.0 is without decay")
    if groups["lr_scaling_base"] < 1:
        problems.append(f"param_groups.lr_scaling_base: {groups['lr_scaling_base']} is not a positive number of images")
    lr = cfg["optimizer"].get("lr") if isinstance(cfg["optimizer"], dict) else None
    if groups["lr_scaling"] != "none" and lr is None:
        problems.append(f"param_groups.lr_scaling: {groups['lr_scaling']} scales optimizer.lr; give optimizer.lr too")
    return problems


def _optimizer_problems(cfg: dict[str, Any]) -> list[str]:
    node, trainer = cfg["optimizer"], cfg["trainer"]
    if not isinstance(node, dict) or not isinstance(trainer, dict) or node.get("fused") is not True:
        return []
    problems = []
    if node.get("foreach"):
        problems.append("optimizer.fused: true, and optimizer.foreach too; give one of them")
    if trainer.get("gradient_clip_val") and not precision_of(trainer).startswith(("32", "64")):
        problems.append(
            f"optimizer.fused: true, and trainer.gradient_clip_val is {trainer['gradient_clip_val']}: with "
            f"trainer.precision={precision_of(trainer)} Lightning clips no gradients of a fused optimizer; give "
            "optimizer.fused=false"
        )
    return problems


def _warmup_problems(scheduler: dict[str, Any]) -> list[str]:
    steps, fraction = scheduler.get("warmup_steps"), scheduler.get("warmup_fraction")
    if steps is None or not fraction:
        return []
    return [
        f"scheduler.warmup_steps: {steps}, and scheduler.warmup_fraction is {fraction}: both say how long the warm-up "
        "is; give scheduler.warmup_fraction=0 with it"
    ]


def _cycle_problems(scheduler: dict[str, Any], optimizer: Any) -> list[str]:
    if not scheduler.get("cycle_momentum") or optimizer is None:
        return []
    accepted = accepted_arguments(optimizer)
    if accepted is None or {"momentum", "betas"} & accepted.keys():
        return []
    name = getattr(optimizer, "__name__", str(optimizer))
    return [f"scheduler.cycle_momentum: true, and {name} has neither momentum nor betas; give false"]


def _plateau_problems(cfg: dict[str, Any]) -> list[str]:
    node = cfg["scheduler"]
    monitor = cfg["checkpoint"]["monitor"] if isinstance(cfg["checkpoint"], dict) else None
    if monitor is None:
        return []  # a checkpoint is scored, nothing is trained
    problems = []
    if node.get("interval", "epoch") != "epoch":
        problems.append(
            f"scheduler.interval: {node['interval']!r}, but a plateau is one of {monitor}, which changes at a "
            "validation and not in an iteration; give epoch, or choose another scheduler"
        )
    problems += unvalidated(cfg, f"scheduler: a plateau of {monitor}")
    mode = cfg["checkpoint"]["mode"]
    if "monitor_mode" not in (accepted_arguments(_located(node)) or {}) and node.get("mode", "min") != mode:
        problems.append(f"scheduler.mode: {node.get('mode', 'min')}, and checkpoint.mode is {mode}; give the same")
    return problems


def unvalidated(cfg: dict[str, Any], what: str) -> list[str]:
    """Return why there are no validations, which `what` needs; nothing if there are."""
    dataset, trainer = cfg["dataset"], cfg["trainer"]
    splits = dataset.get("splits")
    problems = []
    if splits is not None and "val" not in splits and not dataset.get("folds"):
        problems.append(f"{what} needs the split val, and dataset.splits is {splits}")
    if isinstance(trainer, dict) and trainer.get("limit_val_batches") == 0:
        problems.append(f"{what} needs validations, and trainer.limit_val_batches is 0")
    return problems
