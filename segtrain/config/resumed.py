"""What may a resumed run not change of its configuration?"""

from typing import Any

from segtrain.config.optimization import trains_with_plateau

ALWAYS = (
    *("model", "norm", "frozen_stages", "optimizer", "param_groups", "scheduler._target_", "ema"),
    *("swa", "unfreeze_epoch"),
    *("dataset.name", "dataset.source._target_", "dataset.num_classes", "dataset.class_names", "dataset.ignore_index"),
    *("dataset.in_channels", "dataset.value_range", "dataset.label_map", "dataset.reduce_zero_label"),
    *("dataset.fraction", "dataset.folds", "dataset.fold", "dataset.mean", "dataset.std"),
)
INSIDE_AN_EPOCH = ("seed", "loader.batch_size", "sampling", "progressive")


def resume_problems(now: dict[str, Any], then: dict[str, Any], *, inside_an_epoch: bool, run: str) -> list[str]:
    """Return a sentence for every change with which a run cannot go on as the same run.

    The optimizer's settings are among them, and a plateau's with the score that it waits for: the state that is
    restored brings its own, so a new value would be without effect.

    Args:
        now: the composed config, its interpolations unresolved.
        then: the checkpoint's, likewise.
        inside_an_epoch: the checkpoint was written there, so the order of the images must be the same too.
        run: the run's folder.
    """
    new, old = _leaves(now), _leaves(then)
    newer = {key for key in new.keys() - old.keys() if "." not in key}  # than the version that wrote the checkpoint
    changed = [key for key in {**new, **old} if new.get(key) != old.get(key) and key not in newer]
    always, inside = _groups(now)
    return [
        f"{key}: {new.get(key)!r}, and the run that is resumed has {old.get(key)!r}, without which it cannot go "
        f"on; leave it out, or start another run with init_from={run}/checkpoints/last.ckpt"
        for key in changed
        if _is_part(key, always)
    ] + [
        f"{key}: {new.get(key)!r}, and the run that is resumed was stopped inside an epoch with {old.get(key)!r}, "
        "which says the images that are left; leave it out"
        for key in changed
        if inside_an_epoch and _is_part(key, inside) and not _is_part(key, always)
    ]


def _groups(cfg: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys that may not change, anywhere and inside an epoch, with this schedule, scaling and crops."""
    always: tuple[str, ...] = ALWAYS
    inside: tuple[str, ...] = INSIDE_AN_EPOCH
    if trains_with_plateau(cfg):
        always += ("scheduler", "checkpoint.monitor", "checkpoint.mode")
    if cfg["param_groups"]["lr_scaling"] != "none":
        always += ("loader.batch_size",)  # the state brings the learning rate of the old one
    if cfg["progressive"]:
        inside += ("trainer.max_epochs",)  # says the sizes of the crops
    return always, inside


def _is_part(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _leaves(values: Any, path: str = "") -> dict[str, Any]:
    """Return the values that are no groups of keys by their dotted keys."""
    if not isinstance(values, dict) or not values:
        return {path: values}
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{path}.{key}".lstrip("."))
    return leaves
