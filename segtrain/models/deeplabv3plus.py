"""DeepLabv3+ (Chen et al., 2018, arXiv:1802.02611): atrous pyramid pooling, then a decoder with one fine skip.

Deviations: the encoders are torchvision's ResNet and MobileNet, where the paper has modified Xception and ResNet-101;
the decoder's two 3x3 convolutions and the pyramid are separable by default, as the paper's best model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.layers import PooledContext, conv_norm_relu, initialise, resize

ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # Chen et al., 2017, arXiv:1706.05587, section 3.3


class DeepLabV3Plus(nn.Module):
    """Encoder, atrous spatial pyramid pooling, and the decoder of the paper's section 3.1.

    Args:
        num_classes: channels of the logits.
        encoder: features at stride 4 and at the output stride; None for a ResNet-50.
        output_stride: 16 or 8; must be the encoder's.
        atrous_rates: of the pyramid's 3x3 branches; None for the paper's at this output stride.
        separable: depthwise separable 3x3 convolutions.
        channels: of the pyramid and the decoder.
        skip_channels: what the stride-4 feature is reduced to.
        dropout: after the pyramid, as in the authors' code.

    Raises:
        ValueError: if the encoder has another output stride, or no feature at stride 4.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        output_stride: int = 16,
        atrous_rates: Sequence[int] | None = None,
        separable: bool = True,
        channels: int = 256,
        skip_channels: int = 48,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if output_stride not in ATROUS_RATES:
            raise ValueError(f"output_stride: {output_stride} is not one of 8, 16")
        self.encoder = ResNetEncoder("resnet50", output_stride=output_stride) if encoder is None else encoder
        if self.encoder.strides[-1] != output_stride:
            raise ValueError(
                f"output_stride: {output_stride} is wanted and the encoder has {self.encoder.strides[-1]}; "
                f"give the encoder output_stride {output_stride}"
            )
        self.skip_index = self.encoder.feature_at(4)
        rates = ATROUS_RATES[output_stride] if atrous_rates is None else atrous_rates
        self.pyramid = AtrousPyramid(
            self.encoder.channels[-1], channels, rates=rates, separable=separable, dropout=dropout
        )
        self.skip = conv_norm_relu(self.encoder.channels[self.skip_index], skip_channels, 1)
        self.decoder = nn.Sequential(
            conv_norm_relu(channels + skip_channels, channels, separable=separable),
            conv_norm_relu(channels, channels, separable=separable),
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        for part in (self.pyramid, self.skip, self.decoder):
            initialise(part)

    def forward(self, image: Tensor) -> Tensor:
        features = self.encoder(image)
        skip = self.skip(features[self.skip_index])  # (N, 48, H/4, W/4)
        context = self.pyramid(features[-1])  # (N, 256, H/16, W/16), or H/8
        x = self.decoder(torch.cat([resize(context, like=skip), skip], dim=1))  # (N, 256, H/4, W/4)
        return resize(self.classifier(x), like=image)  # (N, num_classes, H, W)


class AtrousPyramid(nn.Module):
    """ASPP: a 1x1 branch, a 3x3 branch for every rate, and the pooled image (Chen et al., 2017, section 3.3)."""

    def __init__(
        self, in_channels: int, channels: int, *, rates: Sequence[int], separable: bool, dropout: float
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_norm_relu(in_channels, channels, 1)]
            + [conv_norm_relu(in_channels, channels, dilation=rate, separable=separable) for rate in rates]
            + [PooledContext(in_channels, channels)]
        )
        self.project = nn.Sequential(conv_norm_relu(len(self.branches) * channels, channels, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], dim=1))  # (N, channels, h, w)
