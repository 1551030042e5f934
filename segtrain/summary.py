"""What a run is about to train: parameters, FLOPs, device; and what it reached: the table at the end."""

import copy
from collections.abc import Mapping, Sequence

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn


def count_flops(model: nn.Module, in_channels: int, size: int) -> int:
    """Return the floating-point operations (two a multiply-add) of one image of size x size in the forward pass.

    Counted on the meta device by torch's own counter: nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    meta = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        meta(torch.zeros(1, in_channels, size, size, device="meta"))
    return counter.get_total_flops()


def describe_model(model: nn.Module, *, in_channels: int, size: int) -> str:
    """Return one line: name, encoder, parameters, FLOPs at the crop size."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    encoder = getattr(model, "encoder", None)
    name = type(model).__name__ + (f" on {type(encoder).__name__}" if encoder is not None else "")
    try:
        flops = f", {count_flops(model, in_channels, size) / 1e9:.2f} GFLOPs"
    except Exception:  # a user's network that cannot run without data must train all the same, with the count left out
        flops = ""
    return f"{name}: {parameters / 1e6:.2f} M parameters{flops} at {in_channels}x{size}x{size}"


def score_table(values: Mapping[str, float], stage: str, class_names: Sequence[str], matrix: Tensor) -> str:
    """Return the table of class, IoU, F1 and pixels with the overall scores below, as text.

    Args:
        values: scores under their log keys.
        stage: the first part of the keys, such as "test".
        class_names: C names.
        matrix: the confusion matrix (C, C), rows the truth.
    """
    pixels = matrix.sum(dim=1).tolist()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("class", "IoU", "F1", "pixels"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, count in zip(class_names, pixels, strict=True):
        iou, f1 = values[f"{stage}/iou/{name}"], values[f"{stage}/f1/{name}"]
        table.add_row(name, _number(iou), _number(f1), f"{count:,}")
    overall = ("miou", "mean_f1", "pixel_accuracy", "mean_accuracy")
    below = "   ".join(f"{name} {_number(values[f'{stage}/{name}'])}" for name in overall)
    return f"{render(table)}\n{stage}: {below.replace('miou', 'mIoU')}"


def render(table: Table) -> str:
    """Return a rich table as plain text."""
    console = Console(width=120, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())


def _number(value: float) -> str:
    return "absent" if value != value else f"{value:.4f}"
