"""Second layer of the check: all problems of a resolved config, found before any object is built."""

from typing import Any

from segtrain.class_weights import weighting_problems
from segtrain.config.accumulation import accumulation_problems
from segtrain.config.check import report
from segtrain.config.facts import class_problems, crop_problems, fact_problems, part_problems
from segtrain.config.optimization import optimization_problems
from segtrain.config.recipes import recipe_problems
from segtrain.config.starting import start_problems
from segtrain.config.suggest import did_you_mean
from segtrain.config.targets import target_problems, walk_targets
from segtrain.config.trust import trust_problems


def check_objects(
    cfg: dict[str, Any],
    *,
    plain: dict[str, Any],
    from_checkpoint: bool = False,
    multirun: bool = False,
    trains: bool = True,
) -> None:
    """Raise every problem of a resolved config at once.

    Args:
        cfg: what `check_keys` returned.
        plain: the same with its interpolations, as `plain_config` returns it.
        from_checkpoint: the config came out of a checkpoint, so its targets must be trusted.
        multirun: the config is one of a sweep's jobs.
        trains: a Trainer will be built, so its devices must be there.

    Raises:
        UserError: with all problems.
    """
    if from_checkpoint:
        report(trust_problems(cfg, cfg["trust"]))
    report(find_problems(cfg, plain=plain, multirun=multirun, trains=trains))


def find_problems(
    cfg: dict[str, Any], *, plain: dict[str, Any] | None = None, multirun: bool = False, trains: bool = True
) -> list[str]:
    """Return all problems of a resolved config: targets and arguments, then rules between the parts."""
    return (
        _absent_targets(cfg)
        + target_problems(cfg)
        + weighting_problems(cfg["loss"])
        + _unread_keys(cfg, plain or {})
        + class_problems(cfg["dataset"])
        + part_problems(cfg["dataset"])
        + crop_problems(cfg)
        + _channel_problems(cfg)
        + _value_problems(cfg)
        + _frozen_problems(cfg)
        + optimization_problems(cfg)
        + accumulation_problems(cfg)
        + recipe_problems(cfg)
        + (start_problems(cfg, multirun=multirun) if trains else [])
    )


def dataset_problems(cfg: dict[str, Any], *, plain: dict[str, Any]) -> list[str]:
    """Return the problems of a command's data set alone; classes that are to be found in its masks are none."""
    dataset = cfg["dataset"]
    found_later = isinstance(dataset, dict) and None in (dataset.get("num_classes"), dataset.get("class_names"))
    return (
        _without_target({"dataset.source": (dataset or {}).get("source")})
        + target_problems({"dataset": dataset})
        + _unread_keys({"dataset": dataset}, plain)
        + (fact_problems(dataset, needed=("ignore_index", "in_channels")) if found_later else class_problems(dataset))
        + part_problems(dataset)
    )


def _absent_targets(cfg: dict[str, Any]) -> list[str]:
    """Return a problem for every component without a `_target_`: a misspelt name inside a group makes one."""
    needed = {name: cfg[name] for name in ("model", "loss", "optimizer", "trainer", "sampling")}
    needed |= {name: cfg[name] for name in ("scheduler", "logger") if cfg[name]}
    needed |= {f"callbacks.{name}": node for name, node in (cfg["callbacks"] or {}).items() if node}
    needed["dataset.source"] = (cfg["dataset"] or {}).get("source")
    augmentation = cfg["augmentation"] or {}
    needed |= {"augmentation.mix": augmentation["mix"]} if augmentation.get("mix") else {}
    transforms = augmentation.get("transforms") or []
    needed |= {f"augmentation.transforms[{index}]": node for index, node in enumerate(transforms)}
    return _without_target(needed)


def _without_target(needed: dict[str, Any]) -> list[str]:
    return [
        f"{path}._target_: missing; name the class that is to be built"
        for path, node in needed.items()
        if not isinstance(node, dict) or "_target_" not in node
    ]


DATASET_KEYS = (
    *("name", "root", "source", "num_classes", "ignore_index", "class_names", "palette", "in_channels"),
    *("crop_size", "scale_range", "vertical_flip", "rotate90", "mean", "std"),
    *("label_map", "reduce_zero_label", "splits", "value_range", "fraction", "folds", "fold"),
)


def _unread_keys(cfg: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """Return the keys of dataset and augmentation that nothing reads: a YAML's own key must be interpolated."""
    text = repr(plain)
    problems = []
    for group, known in (("dataset", DATASET_KEYS), ("augmentation", ("crop_size", "transforms", "mix"))):
        for key in cfg.get(group) or {}:
            if key not in known and f"{group}.{key}}}" not in text and f"{group}.{key}," not in text:
                hint = did_you_mean(str(key), known, prefix=f"{group}.")
                problems.append(f"{group}.{key}: nothing reads this key.{hint} (known: {', '.join(known)})")
    return problems


RGB_ONLY = ("ColorJitter", "HueSaturationValue", "ToGray", "RGBShift", "ChannelShuffle", "CLAHE", "ToSepia")


def _channel_problems(cfg: dict[str, Any]) -> list[str]:
    """Refuse transforms of colours for images that have none."""
    channels = cfg["dataset"].get("in_channels")
    names = [str(node["_target_"]).rpartition(".")[2] for _, node in walk_targets(cfg["augmentation"])]
    return [
        f"augmentation: {name} is for grey or RGB images, and dataset.in_channels is {channels}; "
        "use augmentation=light or augmentation=medical"
        for name in names
        if name in RGB_ONLY and channels not in (None, 1, 3)
    ]


def _value_problems(cfg: dict[str, Any]) -> list[str]:
    problems = []
    overlap, scale, tile = (cfg["inference"][key] for key in ("overlap", "scale", "tile"))
    if not 0 <= overlap < 1:
        problems.append(f"inference.overlap: {overlap} is not in [0, 1): the share of a tile that its neighbour covers")
    if scale <= 0:
        problems.append(f"inference.scale: {scale} is not above 0")
    if tile is not None and tile < 64:
        problems.append(f"inference.tile: {tile} pixels is too small to see anything; give 64 or more, or null")
    for key in ("batch_size", "eval_batch_size"):
        if cfg["loader"][key] < 1:
            problems.append(f"loader.{key}: {cfg['loader'][key]} is not a positive number of images")
    if not 0 <= cfg["seed"] < 2**32:
        problems.append(f"seed: {cfg['seed']} is not in 0 to 4294967295")
    workers = cfg["loader"]["num_workers"]
    if workers is not None and workers < 0:
        problems.append(f"loader.num_workers: {workers} is negative; give 0 or more, or null to choose by machine")
    if not 0 <= cfg["ema_decay"] < 1:
        problems.append(f"ema_decay: {cfg['ema_decay']} is not in [0, 1)")
    policy = cfg["checkpoint"]
    if isinstance(policy, dict):
        problems += _monitor_problems(policy["monitor"], cfg["dataset"].get("class_names") or [])
    return problems


def _frozen_problems(cfg: dict[str, Any]) -> list[str]:
    """Refuse to freeze what nothing has trained."""
    model = cfg["model"] if isinstance(cfg["model"], dict) else {}
    encoder = model["encoder"] if isinstance(model.get("encoder"), dict) else {}
    trained = cfg.get("init_from") or cfg.get("resume") or isinstance(cfg.get("checkpoint"), str)
    weights = [node.get("weights") for node in (model, encoder)]
    own = str(model.get("_target_", "")).startswith("segtrain.")  # a user's network may load weights by itself
    if trained or any(weights) or not own or not encoder:
        return []
    settings = {"norm": cfg["norm"] == "frozen", "frozen_stages": cfg["frozen_stages"] != 0}
    return [
        f"{key}: {cfg[key]} keeps the encoder as it is, and nothing has trained it; give model.encoder.weights or "
        "init_from"
        for key, frozen in settings.items()
        if frozen
    ]


def _monitor_problems(monitor: str, class_names: list[str]) -> list[str]:
    from segtrain.metrics.scores import score_names

    logged = ["val/loss"] + [f"val/{name}" for name in score_names(class_names)]
    if monitor in logged:
        return []
    return [f"checkpoint.monitor: no run logs {monitor!r}.{did_you_mean(monitor, logged)} (such as val/miou, val/loss)"]
