"""Trade stride for dilation in a built network, so that pretrained weights keep their field of view."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT_STRIDES = (8, 16, 32)


def check_output_stride(output_stride: int, accepted: Sequence[int] = OUTPUT_STRIDES) -> None:
    """Raise ValueError for an output stride that is not accepted."""
    if output_stride not in accepted:
        raise ValueError(f"output_stride: {output_stride} is not one of {', '.join(map(str, accepted))}")


def dilations(output_stride: int) -> tuple[int, int]:
    """Return the dilation of the stages of stride 16 and 32 for an output stride of 8, 16 or 32."""
    check_output_stride(output_stride)
    return {32: (1, 1), 16: (1, 2), 8: (2, 4)}[output_stride]


def dilate(network: nn.Module, layers: Iterable[nn.Module], *, first: int, rest: int) -> None:
    """Set strides to 1 and dilate poolings and k x k convolutions, in place.

    Source: Chen et al., 2017, arXiv:1706.05587, section 3.1.

    Args:
        network: what contains the layers.
        layers: the modules of a stage, in the order in which they run.
        first: dilation of the convolutions and poolings up to and including the one that had a stride.
        rest: dilation of those after it.
    """
    names = {module: name for name, module in network.named_modules()}
    dilation = first
    for module in [module for layer in layers for module in layer.modules()]:
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            network.set_submodule(names[module], RightPaddedPool2d.like(module, dilation))
            dilation = rest
        if not isinstance(module, nn.Conv2d):
            continue
        strided, spatial = module.stride != (1, 1), module.kernel_size != (1, 1)
        if module.kernel_size[0] % 2 == 0:
            network.set_submodule(names[module], RightPaddedConv2d.like(module, dilation))
        else:
            module.stride = (1, 1)
            _set_dilation(module, dilation)
        if strided and spatial:
            dilation = rest


def _set_dilation(conv: nn.Conv2d, dilation: int) -> None:
    conv.dilation = (dilation, dilation)
    conv.padding = tuple(dilation * (size - 1) // 2 for size in conv.kernel_size)


class RightPaddedConv2d(nn.Conv2d):
    """A convolution without stride that keeps the size and has an even kernel: the padding is at the right and bottom.

    There it gives a strided convolution without padding (ConvNeXt's 2x2) the same values at every other pixel.
    """

    @classmethod
    def like(cls, conv: nn.Conv2d, dilation: int) -> "RightPaddedConv2d":
        """Return the convolution without its stride, on the same parameters."""
        padded = cls(conv.in_channels, conv.out_channels, conv.kernel_size, dilation=dilation, device="meta")  # type: ignore[arg-type]
        padded.weight, padded.bias = conv.weight, conv.bias
        return padded

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (d * (size - 1) for d, size in zip(self.dilation, self.kernel_size, strict=True))
        return super().forward(F.pad(x, (0, right, 0, bottom)))


class RightPaddedPool2d(nn.Module):
    """A 2x2 pooling without stride that keeps the size: of each pixel, the one `dilation` to the right, those below.

    At every other pixel it gives the values of the strided pooling. At the right and bottom border, where there is no
    second pixel, the first stands alone.
    """

    def __init__(self, dilation: int, *, maximum: bool) -> None:
        super().__init__()
        self.dilation, self.maximum = dilation, maximum

    @classmethod
    def like(cls, pool: nn.MaxPool2d | nn.AvgPool2d, dilation: int) -> "RightPaddedPool2d":
        """Return the pooling without its stride."""
        assert (pool.kernel_size, pool.stride) == (2, 2), pool
        return cls(dilation, maximum=isinstance(pool, nn.MaxPool2d))

    def forward(self, x: Tensor) -> Tensor:
        d = self.dilation
        x = self._join(x, torch.cat([x[..., d:, :], x[..., -d:, :]], dim=-2))
        return self._join(x, torch.cat([x[..., d:], x[..., -d:]], dim=-1))

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b) if self.maximum else (a + b) / 2


def apply_multi_grid(blocks: Sequence[nn.Module], multi_grid: Sequence[int], dilation: int) -> None:
    """Dilate the 3x3 convolutions of each block by its own multiple (Chen et al., 2017, section 3.2.1).

    Raises:
        ValueError: if there is not one multiple a block, 1 or more.
    """
    if len(multi_grid) != len(blocks) or min(multi_grid) < 1:
        raise ValueError(
            f"multi_grid: {list(multi_grid)} has not one rate, 1 or more, for each of the stage's {len(blocks)} blocks"
        )
    for block, multiple in zip(blocks, multi_grid, strict=True):
        for module in block.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
                _set_dilation(module, dilation * multiple)
