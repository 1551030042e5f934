"""Which objects a checkpoint's config may name: a checkpoint is data, and must not run code of its choice."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from segtrain.config.targets import locate, walk_targets

TRUSTED_PREFIXES = (
    "segtrain.",
    "torch.nn.",
    "torch.optim.",
    "torchvision.models.",
    "albumentations.",
    "timm.",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.callbacks.LearningRateMonitor",
    "pytorch_lightning.loggers.TensorBoardLogger",
    "pytorch_lightning.loggers.CSVLogger",
)


def trust_problems(cfg: dict[str, Any], trusted_by_user: Sequence[str] = ()) -> list[str]:
    """Return a problem for every `_target_` that is not a class of an expected base under a trusted prefix.

    Of the packages that the user trusts, functions are accepted too.

    A name is judged before anything of it is imported, and the object again after: `segtrain.cli.os.system`
    has the right prefix and is neither a class nor of segtrain.

    Args:
        cfg: the resolved config that a checkpoint carries.
        trusted_by_user: further packages, as in `trust=[mynet]`.
    """
    own = tuple(name.rstrip(".") + "." for name in trusted_by_user)
    problems = [
        f"{path}: {text!r} is an interpolation inside an interpolation, which a checkpoint may not carry"
        for path, text in _texts(cfg)
        if "${" in text
    ]
    for path, node in walk_targets(cfg):
        target = str(node["_target_"])
        if path == "logger":
            problems += [
                f"logger.{key}: a checkpoint may not say where its log goes ({value!r})"
                for key, value in node.items()
                if isinstance(value, str) and (value.startswith(("/", "~")) or ".." in value)
            ]
        if not target.startswith(TRUSTED_PREFIXES + own):
            package = target.split(".")[0]
            problems.append(
                f"{path}._target_: the checkpoint asks for {target!r}, which segtrain does not trust; "
                f"if the checkpoint is yours, add trust=[{package}]"
            )
            continue
        try:
            found = locate(target)
        except ImportError:
            continue  # reported by target_problems, with the remedy
        vouched_for = f"{getattr(found, '__module__', '')}.".startswith(own)  # by the user, functions too
        if not vouched_for and not _is_component(found):
            problems.append(f"{path}._target_: {target!r} is not a class that a checkpoint may name")
    return problems


def _is_component(found: Any) -> bool:
    """Say whether the object is a component class of a trusted package."""
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith((*TRUSTED_PREFIXES, "pytorch_lightning.")):
        return False
    import albumentations as A
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset

    from segtrain.data.images import ImageReader
    from segtrain.data.masks import MaskReader
    from segtrain.data.mixing import Mix
    from segtrain.data.sampling import Sampling
    from segtrain.sharding.strategy import ShardedStrategy

    components = (nn.Module, Optimizer, LRScheduler, Dataset, A.BasicTransform, A.BaseCompose, pl.Callback, Logger)
    return issubclass(found, (*components, pl.Trainer, ImageReader, MaskReader, Mix, Sampling, ShardedStrategy))


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every string of a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")
    elif isinstance(node, str):
        yield path, node
