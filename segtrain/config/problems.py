"""Second layer of the check: all problems of a resolved config, found before any object is built."""

from typing import Any

from segtrain.config.check import report
from segtrain.config.suggest import did_you_mean
from segtrain.config.targets import target_problems
from segtrain.config.trust import trust_problems


def check_objects(cfg: dict[str, Any], *, from_checkpoint: bool = False, multirun: bool = False) -> None:
    """Raise every problem of a resolved config at once.

    Args:
        cfg: what `check_keys` returned.
        from_checkpoint: the config came out of a checkpoint, so its targets must be trusted.
        multirun: the config is one of a sweep's jobs.

    Raises:
        UserError: with all problems.
    """
    if from_checkpoint:
        report(trust_problems(cfg, cfg["trust"]))
    report(find_problems(cfg, multirun=multirun))


def find_problems(cfg: dict[str, Any], *, multirun: bool = False) -> list[str]:
    """Return all problems of a resolved config: targets and arguments, then rules between the parts."""
    return (
        target_problems(cfg)
        + _dataset_problems(cfg["dataset"])
        + _value_problems(cfg)
        + _device_problems(cfg["trainer"], multirun=multirun)
    )


def _dataset_problems(dataset: dict[str, Any]) -> list[str]:
    facts = ("num_classes", "ignore_index", "class_names", "in_channels", "source")
    problems = [f"dataset.{fact}: missing; a data set's YAML says it" for fact in facts if dataset.get(fact) is None]
    if problems:
        return problems
    count, names, ignored = dataset["num_classes"], dataset["class_names"], dataset["ignore_index"]
    if len(names) != count:
        problems.append(f"dataset.class_names: {len(names)} names for dataset.num_classes={count}; give one a class")
    if len(set(names)) != len(names):
        problems.append(f"dataset.class_names: {names} has a name twice; metrics are logged by name")
    if 0 <= ignored < count:
        problems.append(
            f"dataset.ignore_index: {ignored} is one of the classes 0 to {count - 1}; give a value outside, such as 255"
        )
    palette = dataset.get("palette")
    if palette is not None and len(palette) != count:
        problems.append(f"dataset.palette: {len(palette)} colours for dataset.num_classes={count}; give one a class")
    if dataset["in_channels"] != 3 and str(dataset["source"].get("_target_", "")).startswith("segtrain.data."):
        problems.append(f"dataset.in_channels: {dataset['in_channels']}, but this data set gives RGB images; give 3")
    crop = dataset.get("crop_size")
    if crop is not None and crop < 32:
        problems.append(f"dataset.crop_size: {crop} is smaller than 32 pixels, the coarsest stride of the encoders")
    return problems


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
    workers = cfg["loader"]["num_workers"]
    if workers is not None and workers < 0:
        problems.append(f"loader.num_workers: {workers} is negative; give 0 or more, or null to choose by machine")
    if not 0 <= cfg["ema_decay"] < 1:
        problems.append(f"ema_decay: {cfg['ema_decay']} is not in [0, 1)")
    policy = cfg["checkpoint"]
    if isinstance(policy, dict):
        problems += _monitor_problems(policy["monitor"], cfg["dataset"].get("class_names") or [])
    return problems


def _monitor_problems(monitor: str, class_names: list[str]) -> list[str]:
    from segtrain.metrics.scores import score_names

    logged = ["val/loss"] + [f"val/{name}" for name in score_names(class_names)]
    if monitor in logged:
        return []
    return [f"checkpoint.monitor: no run logs {monitor!r}.{did_you_mean(monitor, logged)} (such as val/miou, val/loss)"]


def _device_problems(trainer: dict[str, Any], *, multirun: bool) -> list[str]:
    """Refuse a device that this machine does not have, and DDP processes that a sweep would start."""
    import torch
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    strategy = trainer.get("strategy", "auto")
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not cuda and not (accelerator == "gpu" and mps):
        return [
            f"trainer.accelerator: {accelerator!r}, but torch sees no GPU on this machine; "
            "use trainer=cpu or trainer=auto (`segtrain env` shows what torch sees)"
        ]
    if accelerator == "mps" and not mps:
        return ["trainer.accelerator: 'mps', but this machine has no Apple GPU that torch can use; use trainer=cpu"]
    wanted = _device_count(devices)
    on_cuda = accelerator in ("gpu", "cuda") or (accelerator == "auto" and cuda > 0)
    available = cuda if on_cuda else 1
    if wanted is not None and wanted > available and not (accelerator == "cpu" and strategy != "auto"):
        kind = "GPU" if on_cuda else "device (the CPU)" if not mps else "device"
        return [
            f"trainer.devices: {devices} asked for, but this machine has {available} {kind}; "
            f"use trainer.devices={available}, or trainer=ddp_cpu to try several processes on a CPU"
        ]
    launched = TorchElasticEnvironment.detect()
    if multirun and not launched and (wanted or available) > 1:
        return [
            "trainer.devices: a sweep in one process cannot start several processes a job (their settings would "
            "differ between the ranks); use trainer.devices=1, or start each job by itself"
        ]
    return []


def _device_count(devices: Any) -> int | None:
    """Return how many devices a Trainer's `devices` asks for; None for 'auto' and -1 (all there are)."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str):
        if not devices.isdigit():
            return devices.count(",") + 1 if "," in devices else None
        return int(devices)
    return None if devices is None or devices < 0 else devices
