"""The tables of `segtrain models`: every network and encoder of the config tree, built and counted."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, InstantiationException
from omegaconf import OmegaConf
from rich import box
from rich.table import Table
from torch import nn

from segtrain.build import build_model
from segtrain.config.check import report
from segtrain.config.locate import config_dir
from segtrain.config.suggest import did_you_mean
from segtrain.config.targets import target_problems
from segtrain.errors import UserError
from segtrain.models.encoders.encoder import Encoder
from segtrain.summary import count_flops, render


def model_table(names: Sequence[str], *, encoder: str | None, num_classes: int, size: int) -> str:
    """Return the networks as a table: paper, encoder, parameters, GFLOPs, stride, auxiliary head.

    Args:
        names: options of the group `model`; all if empty.
        encoder: an option of `model/encoder` for all of them; None for each one's own.
        num_classes: channels of the logits.
        size: pixels along a side of the image.

    Raises:
        UserError: for a name that is no option, or a number that is too small.
    """
    _check(names, "model")
    _check([encoder] if encoder else [], "model/encoder")
    if num_classes < 2:
        raise UserError(f"--classes: {num_classes}; a background is a class too, give 2 or more")
    _check_size(size)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("model", "paper", "encoder", "parameters", f"GFLOPs at {size}", "stride", "aux"):
        table.add_column(column, justify="right" if column[:6] in ("parame", "GFLOPs", "stride") else "left")
    for name in names or options("model"):
        try:
            node, model = _build(name, encoder, num_classes)
        except UserError as error:
            table.add_row(name, paper(_target(name)), f"[dim]{error}[/dim]", "", "", "", "")
            continue
        table.add_row(
            name,
            paper(node["_target_"]),
            _encoder_name(node),
            f"{_parameters(model):,}",
            f"{count_flops(model, 3, size) / 1e9:.1f}",
            str(max(getattr(getattr(model, "encoder", None), "strides", [0])) or "-"),
            ", ".join(f"{key} {value}" for key, value in getattr(model, "aux_weights", {}).items()) or "-",
        )
    return render(table)


def encoder_table(*, size: int) -> str:
    """Return the encoders as a table: parameters, GFLOPs, strides, channels, output strides that dilation can give."""
    _check_size(size)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("encoder", "parameters", f"GFLOPs at {size}", "strides", "channels", "output_stride"):
        table.add_column(column, justify="right" if column[:6] in ("parame", "GFLOPs") else "left")
    for name in options("model/encoder"):
        try:
            encoder = _build_encoder(name)
        except UserError as error:
            table.add_row(name, "", "", str(error), "", "")
            continue
        table.add_row(
            name,
            f"{_parameters(encoder):,}",
            f"{count_flops(encoder, 3, size) / 1e9:.1f}",
            ", ".join(map(str, encoder.strides)),
            ", ".join(map(str, encoder.channels)),
            ", ".join(map(str, getattr(encoder, "output_strides", ()))) or "-",
        )
    return render(table)


def options(group: str) -> list[str]:
    """Return the names of a config group's YAML files."""
    return sorted(path.stem for path in (Path(config_dir()) / group).glob("*.yaml"))


def paper(target: str) -> str:
    """Return the citation in brackets of the target's module, or "-" where that is no paper's."""
    found = re.search(r"^.*?\((.*?arXiv:[\d.]+)\)", sys.modules[target.rpartition(".")[0]].__doc__ or "")
    return found[1] if found else "-"


def _compose(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={name}", *overrides])
    node = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(node, dict)
    resolved = OmegaConf.create({"model": node["model"], "dataset": node["dataset"]})
    return OmegaConf.to_container(resolved, resolve=True)  # type: ignore[return-value]


def _target(name: str) -> str:
    return str(_compose(name)["model"]["_target_"])


def _build(name: str, encoder: str | None, num_classes: int) -> tuple[dict[str, Any], nn.Module]:
    overrides = [f"dataset.num_classes={num_classes}", *([f"model/encoder={encoder}"] if encoder else [])]
    try:
        cfg = _compose(name, overrides)
    except ConfigCompositionException as error:
        raise UserError(f"model={name} takes no model/encoder") from error
    report(target_problems({"model": cfg["model"]}))
    try:
        with torch.device("meta"):  # no memory, no random numbers
            return cfg["model"], build_model(cfg)
    except InstantiationException:  # torchvision's RegNets compute their widths with tensors
        return cfg["model"], build_model(cfg)


def _build_encoder(name: str) -> Encoder:
    dilated = _compose("unet", [f"model/encoder={name}"])["model"]["encoder"].get("output_stride") in (8, 16)
    encoder = _build("deeplabv3" if dilated else "unet", name, 2)[1].encoder  # U-Net takes what is not dilated
    assert isinstance(encoder, Encoder)
    return encoder


def _check(names: Sequence[str], group: str) -> None:
    for name in names:
        if name not in options(group):
            known = options(group)
            raise UserError(
                f"{group}={name}: no such option.{did_you_mean(name, known)} (available: {', '.join(known)})"
            )


def _check_size(size: int) -> None:
    if size < 32:
        raise UserError(f"--size: {size} pixels are fewer than 32, the coarsest stride of the encoders")


def _encoder_name(node: dict[str, Any]) -> str:
    if "encoder_name" in node:
        return str(node["encoder_name"])
    inner = node.get("encoder") or {}
    return str(inner.get("name") or inner.get("_target_", "").rpartition(".")[2] or node.get("name", ""))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
