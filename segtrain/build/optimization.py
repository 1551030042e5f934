"""From a checked config to what makes the optimizer and its schedule."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segtrain.build.node import build_node
from segtrain.config.targets import locate
from segtrain.errors import UserError
from segtrain.hardware import precision_of
from segtrain.models.encoders.encoder import Encoder
from segtrain.optimizers.fused import may_fuse
from segtrain.optimizers.groups import hidden_weights, lr_factor, parameter_groups

log = logging.getLogger("segtrain")

Config = dict[str, Any]


def optimizer_maker(cfg: Config) -> Callable[[nn.Module], Optimizer]:
    node = _scaled(cfg)
    target = locate(node["_target_"])
    groups = {key: value for key, value in cfg["param_groups"].items() if not key.startswith("lr_scaling")}
    clips = bool(cfg["trainer"].get("gradient_clip_val")) and not precision_of(cfg["trainer"]).startswith(("32", "64"))

    def make(model: nn.Module) -> Optimizer:
        split = getattr(target, "splits_hidden_weights", False)
        hidden = hidden_weights(model, num_classes=cfg["dataset"]["num_classes"]) if split else None
        later = _trained_later(model, cfg)
        try:
            parameters = parameter_groups(model, lr=node.get("lr"), hidden=hidden, trained_later=later, **groups)
        except ValueError as error:
            raise UserError(f"param_groups.{error}") from error
        trained = [parameter for group in parameters for parameter in group["params"]]
        fuse = {"fused": True} if may_fuse(target, node, trained, clips=clips, later=bool(later)) else {}
        given = {key: value for key, value in node.items() if (key, value) != ("fused", "auto")}
        return build_node("optimizer", given | fuse, params=parameters)

    return make


def _trained_later(model: nn.Module, cfg: Config) -> list[nn.Parameter]:
    """Return the parameters of the stages that are frozen for a while; an optimizer passes over them until then."""
    encoder = getattr(model, "encoder", None)
    if cfg.get("unfreeze_epoch") is None or not isinstance(encoder, Encoder):
        return []
    return encoder.frozen_parameters()


def _scaled(cfg: Config) -> Config:
    """Return the optimizer's node with the learning rate that suits the batch size."""
    node, rule, base = cfg["optimizer"], cfg["param_groups"]["lr_scaling"], cfg["param_groups"]["lr_scaling_base"]
    if rule == "none":
        return dict(node)
    images = cfg["loader"]["batch_size"]
    scaled = node["lr"] * lr_factor(rule, batch_size=images, base=base)
    log.info(f"learning rate {node['lr']:g} for steps of {base} images is {scaled:g} for {images} ({rule} scaling)")
    return {**node, "lr": scaled}


def scheduler_maker(cfg: Config, total_steps: int) -> Callable[[Optimizer], LRScheduler] | None:
    if not cfg["scheduler"]:
        return None
    accepted = inspect.signature(locate(cfg["scheduler"]["_target_"])).parameters
    known = {"total_steps": total_steps, "monitor_mode": cfg["checkpoint"]["mode"]}
    extra = {name: value for name, value in known.items() if name in accepted}

    def make(optimizer: Optimizer) -> LRScheduler:
        return build_node("scheduler", cfg["scheduler"], optimizer=optimizer, **extra)

    return make
