"""ResNet (He et al., 2016, arXiv:1512.03385), ResNeXt and Wide ResNet encoders on torchvision's networks."""

from torch import Tensor, nn

from segtrain.models.encoders.dilation import dilate, dilations
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.pretrained import adapt_first_conv, build_torchvision, statistics

NAMES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)


class ResNetEncoder(Encoder):
    """Features of the stem and the four stages: strides 2, 4, 8, 16, 32.

    Args:
        name: one of `NAMES`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation in the last one or two stages (as torchvision's DeepLab:
            the first block of a dilated stage keeps the dilation before it).

    Raises:
        ValueError: for a name, weights or an output stride that torchvision does not have.
    """

    def __init__(
        self,
        name: str = "resnet50",
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if name not in NAMES:
            raise ValueError(f"name: no ResNet is called {name!r} (accepts: {', '.join(NAMES)})")
        dilation16, dilation32 = dilations(output_stride)
        net = build_torchvision(name, weights=weights)
        conv1 = adapt_first_conv(net.conv1, in_channels, pretrained=weights is not None)
        self.mean, self.std = statistics(weights, in_channels)
        self.stem = nn.Sequential(conv1, net.bn1, net.relu)
        self.pool: nn.Module = net.maxpool
        self.layer1: nn.Module = net.layer1
        self.layer2: nn.Module = net.layer2
        self.layer3: nn.Module = net.layer3
        self.layer4: nn.Module = net.layer4
        if dilation16 > 1:
            dilate(self.layer3, first=1, rest=dilation16)
        if dilation32 > 1:
            dilate(self.layer4, first=dilation16, rest=dilation32)
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        width = net.fc.in_features  # 512 or 2048
        self.channels = (64, width // 8, width // 4, width // 2, width)

    def forward(self, image: Tensor) -> list[Tensor]:
        stem = self.stem(image)  # (N, 64, H/2, W/2)
        layer1 = self.layer1(self.pool(stem))  # (N, C1, H/4, W/4)
        layer2 = self.layer2(layer1)  # (N, C2, H/8, W/8)
        layer3 = self.layer3(layer2)  # (N, C3, H/16, W/16), or H/8
        layer4 = self.layer4(layer3)  # (N, C4, H/32, W/32), or H/16, H/8
        return [stem, layer1, layer2, layer3, layer4]
