"""Blocks that more than one paper uses."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, dilation: int = 1, separable: bool = False
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU that keep the size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: an odd number.
        dilation: spacing of the kernel.
        separable: split into a depthwise and a pointwise convolution, each with norm and ReLU (Chen et al., 2018).
    """
    padding = dilation * (kernel_size - 1) // 2
    if not separable:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        kernel_size,
        padding=padding,
        dilation=dilation,
        groups=in_channels,
        bias=False,
    )
    return nn.Sequential(
        *(depthwise, nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)),
        *(
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ),
    )


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two 3x3 convolutions with norm and ReLU: U-Net's block."""
    return nn.Sequential(conv_norm_relu(in_channels, out_channels), conv_norm_relu(out_channels, out_channels))


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm for pooled features, of which one image may have a single pixel.

    One value a channel is no statistic: such a batch is normalised by the running statistics, in training too.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class FCNHead(nn.Sequential):
    """3x3 convolution to a quarter of the channels, norm, ReLU, dropout, 1x1 convolution to the classes.

    The head of FCN on a dilated ResNet and of auxiliary losses (Zhao et al., 2017, arXiv:1612.01105, section 4);
    layers and names are torchvision's.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        inner = max(in_channels // 4, 1)
        super().__init__(
            *conv_norm_relu(in_channels, inner), nn.Dropout(dropout), nn.Conv2d(inner, num_classes, kernel_size=1)
        )


def initialise(*modules: nn.Module) -> None:
    """Give a decoder's convolutions Kaiming's normal weights (He et al., 2015), as torchvision's ResNet.

    Not the last one, which gives the logits: the fewer the classes, the larger these weights, and the first loss would
    be far above that of a uniform guess.
    """
    for layer in [layer for module in modules for layer in module.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of another tensor."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def fit(x: Tensor, like: Tensor) -> Tensor:
    """Cut or pad with zeros, at the right and bottom, to the height and width of another tensor.

    Doubling what was halved gives one pixel more where an encoder rounds odd sizes up, one less where it rounds down.
    """
    return F.pad(x, (0, like.shape[-1] - x.shape[-1], 0, like.shape[-2] - x.shape[-2]))
