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


class PooledContext(nn.Module):
    """Average pooling to one pixel, 1x1 convolution, norm, ReLU, and back to the input's size.

    Batch norm has one value a channel and image here, which is no statistic for a batch of one: such a batch is
    normalised by the running statistics, in training too.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv(x.mean(dim=(2, 3), keepdim=True))  # (N, C, 1, 1)
        if self.training and pooled.shape[0] == 1:
            norm = self.norm
            pooled = F.batch_norm(
                pooled,
                norm.running_mean,
                norm.running_var,
                norm.weight,
                norm.bias,
                training=False,
                eps=norm.eps,
            )
        else:
            pooled = self.norm(pooled)
        return F.relu(pooled).expand(-1, -1, x.shape[2], x.shape[3])


def initialise(module: nn.Module) -> None:
    """Give a decoder's convolutions Kaiming's normal weights (He et al., 2015), as torchvision's ResNet."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of another tensor."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
