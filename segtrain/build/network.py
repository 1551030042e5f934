"""From a checked config to the network and the Lightning module around it."""

from typing import Any

import torch
from torch import nn

from segtrain.adapt import adapt, normalize_for
from segtrain.build.node import build_node
from segtrain.build.optimization import optimizer_maker, scheduler_maker
from segtrain.config.facts import crop_size
from segtrain.errors import UserError
from segtrain.inference.any_size import AnySize
from segtrain.module import SegmentationModule

Config = dict[str, Any]


def build_model(cfg: Config, *, restore: bool = False) -> nn.Module:
    """Return the network; one that a checkpoint fills is built without pretrained weights, so nothing is downloaded."""
    node = _without_weights(cfg["model"]) if restore else cfg["model"]
    model = build_node("model", node)
    if not isinstance(model, nn.Module):
        raise UserError(f"model._target_: {cfg['model']['_target_']} gives a {type(model).__name__}, not an nn.Module")
    return model


def build_loss(node: Config) -> nn.Module:
    """Return the loss of a node whose class weights are numbers."""
    loss: nn.Module = build_node("loss", node)
    return loss


WEIGHT_KEYS = ("weights", "weights_backbone", "encoder_weights", "pretrained")  # torchvision's, SMP's and timm's too


def _without_weights(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: None if key in WEIGHT_KEYS and isinstance(value, str | bool) else _without_weights(value)
            for key, value in node.items()
        }
    return node


def build_module(
    cfg: Config, *, plain: Config, total_steps: int | None = None, restore: bool = False
) -> SegmentationModule:
    """Return the Lightning module.

    Args:
        cfg: the resolved config.
        plain: the config that its checkpoints carry.
        total_steps: of the schedule; None builds for evaluation only.
        restore: a checkpoint will fill the weights.
    """
    dataset = cfg["dataset"]
    model = build_model(cfg, restore=restore)
    adapt(model, cfg)
    if cfg["perf"]["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    encoder = getattr(model, "encoder", model)
    module = SegmentationModule(
        model,
        loss=build_loss(cfg["loss"]),
        normalize=normalize_for(model, dataset),
        any_size=AnySize(stride=max(getattr(encoder, "strides", (32,))), **cfg["inference"]),
        class_names=dataset["class_names"],
        ignore_index=dataset["ignore_index"],
        optimizer=optimizer_maker(cfg) if total_steps is not None else None,
        scheduler=scheduler_maker(cfg, total_steps) if total_steps is not None else None,
        seed=None if cfg["deterministic"] == "none" else cfg["seed"],
        channels_last=cfg["perf"]["channels_last"],
        crop_size=crop_size(cfg)[1] or 256,
        config=plain,
    )
    if cfg["compile"] and total_steps is not None:
        model.compile(dynamic=False)
    return module
