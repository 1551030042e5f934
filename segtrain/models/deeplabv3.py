"""DeepLabv3 (Chen et al., 2017, arXiv:1706.05587): atrous convolutions at several rates beside each other.

Deviations: the encoder is torchvision's ResNet, where the first block of a dilated stage keeps the dilation before it
unless `multi_grid` is set; one dropout before the classifier, as in the authors' code. torchvision's DeepLabv3 differs
from the paper's: rates 12, 24, 36 at output stride 16 too, a 3x3 convolution before the classifier (`head_conv`),
dropout 0.5 in the pyramid. Its state dicts load by `segtrain.models.torchvision_keys.translate`.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.dilation import check_output_stride
from segtrain.models.encoders.encoder import Encoder, check_encoder_stride, named_stages, stage_names
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.layers import PooledBatchNorm2d, conv_norm_relu, initialise, resize
from segtrain.models.network import SegmentationNetwork
from segtrain.models.torchvision_keys import from_torchvision
from segtrain.models.weights import WeightFile

# section 3.3 for 16 and 8; halved again for encoders that cannot be dilated
ATROUS_RATES = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}


class DeepLabV3(SegmentationNetwork):
    """A dilated encoder, atrous spatial pyramid pooling and a classifier.

    Args:
        num_classes: channels of the logits.
        encoder: None for the paper's ResNet-50, with multi-grid 1, 2, 4.
        output_stride: 16, 8, or 32 for encoders that cannot be dilated; must be the encoder's.
        atrous_rates: of the pyramid's 3x3 branches; None for the paper's at this output stride.
        channels: of the pyramid.
        head_conv: a 3x3 convolution between the pyramid and the classifier, as torchvision has.
        dropout: after the pyramid.
        aux: {feature: weight} of auxiliary losses, such as {"stage4": 0.4}.

    Raises:
        ValueError: if the encoder has another output stride.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        output_stride: int = 16,
        atrous_rates: Sequence[int] | None = None,
        channels: int = 256,
        head_conv: bool = False,
        dropout: float = 0.1,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride)
        if encoder is None:
            multi_grid = None if output_stride == 32 else (1, 2, 4)
            encoder = ResNetEncoder("resnet50", output_stride=output_stride, multi_grid=multi_grid)
        check_encoder_stride(encoder, output_stride)
        self.encoder = encoder
        self.pyramid = AtrousPyramid(
            encoder.channels[-1], channels, rates=check_rates(atrous_rates, output_stride), dropout=dropout
        )
        self.head = conv_norm_relu(channels, channels) if head_conv else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise(self.pyramid)
        initialise(self.head)
        self.auxiliary = AuxiliaryHeads(aux, channels=stage_names(encoder), num_classes=num_classes)
        self.read_features(-1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        x = self.head(self.pyramid(features[-1]))  # (N, 256, H/16, W/16), or H/8
        logits = resize(self.classifier(x), like=image)  # (N, num_classes, H, W)
        return self.auxiliary(logits, named_stages(features))

    def translate(self, file: WeightFile) -> WeightFile:
        """Return a torchvision DeepLabv3's file under our names; it fits with `head_conv` and torchvision's rates."""
        return from_torchvision(file)


class AtrousPyramid(nn.Module):
    """ASPP: a 1x1 branch, a 3x3 branch for every rate, and the pooled image (section 3.3).

    Args:
        in_channels: channels of the input.
        channels: of every branch and of the output.
        rates: dilations of the 3x3 branches.
        separable: depthwise separable 3x3 branches (Chen et al., 2018, arXiv:1802.02611, section 3.1).
        dropout: at the end.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: Sequence[int],
        separable: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_norm_relu(in_channels, channels, 1)]
            + [atrous_branch(in_channels, channels, rate=rate, separable=separable) for rate in rates]
            + [PooledImage(in_channels, channels)]
        )
        self.project = nn.Sequential(conv_norm_relu(len(self.branches) * channels, channels, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], dim=1))  # (N, channels, h, w)


def check_rates(rates: Sequence[int] | None, output_stride: int) -> Sequence[int]:
    """Return the pyramid's rates: the given ones, or the paper's for an output stride; ValueError if any is below 1."""
    if rates is None:
        return ATROUS_RATES[output_stride]
    if not rates or min(rates) < 1:
        raise ValueError(f"atrous_rates: {list(rates)} are not dilations of 1 or more; null gives the paper's")
    return rates


def atrous_branch(in_channels: int, channels: int, *, rate: int, separable: bool) -> nn.Sequential:
    """Return a 3x3 convolution of this rate with norm and ReLU; on small features it skips taps that see padding."""
    branch = conv_norm_relu(in_channels, channels, dilation=rate, separable=separable)
    width, groups = (in_channels, in_channels) if separable else (channels, 1)
    branch[0] = AtrousConv2d(in_channels, width, 3, padding=rate, dilation=rate, groups=groups, bias=False)
    return branch


class AtrousConv2d(nn.Conv2d):
    """A dilated 3x3 convolution that computes only the taps which can see a pixel.

    Where the rate is as large as the feature, all but the middle row, or column, of taps see padding for every output
    (section 3.3 notes that the filter degenerates to 1x1). They are left out: the result is the same, with a third or
    a ninth of the multiplications. At output stride 8 and rate 36 that is so for images up to 288 pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # the choice would tie an exported graph to one size
            return super().forward(x)
        rate = self.dilation[0]
        blind = [rate >= side for side in x.shape[-2:]]
        rows, columns = (slice(1, 2) if side else slice(None) for side in blind)
        padding = [0 if side else rate for side in blind]
        weight = self.weight[:, :, rows, columns]
        return F.conv2d(x, weight, self.bias, padding=padding, dilation=rate, groups=self.groups)


class PooledImage(nn.Module):
    """Average pooling to one pixel, 1x1 convolution, norm, ReLU, and back to the input's size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = PooledBatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.norm(self.conv(x.mean(dim=(2, 3), keepdim=True))).relu()  # (N, C, 1, 1)
        return pooled.expand(-1, -1, x.shape[2], x.shape[3])
