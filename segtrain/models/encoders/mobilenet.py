"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381) and V3 (Howard et al., 2019) encoders on torchvision's."""

import torch
from torch import Tensor, nn

from segtrain.models.encoders.dilation import dilate, dilations
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.pretrained import adapt_first_conv, build_torchvision, statistics

NAMES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")


class MobileNetEncoder(Encoder):
    """The last feature of every stride: 2, 4, 8, 16, 32.

    The classifier's last 1x1 convolution (to 1280, 960 or 576 channels) is part of the deepest feature, as in
    torchvision's DeepLabv3 and LR-ASPP on MobileNetV3.

    Args:
        name: one of `NAMES`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation.

    Raises:
        ValueError: for a name, weights or an output stride that torchvision does not have.
    """

    def __init__(
        self,
        name: str = "mobilenet_v3_large",
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if name not in NAMES:
            raise ValueError(f"name: no MobileNet is called {name!r} (accepts: {', '.join(NAMES)})")
        dilation16, dilation32 = dilations(output_stride)
        blocks = list(build_torchvision(name, weights=weights).features)
        blocks[0][0] = adapt_first_conv(blocks[0][0], in_channels, pretrained=weights is not None)
        self.mean, self.std = statistics(weights, in_channels)
        # cut before every block that halves the size
        starts = [index for index, block in enumerate(blocks) if _halves(block)]
        ends = [*starts[1:], len(blocks)]
        self.stages = nn.ModuleList(nn.Sequential(*blocks[i:j]) for i, j in zip(starts, ends, strict=True))
        if dilation16 > 1:
            dilate(self.stages[3], first=dilation16, rest=dilation16)
        if dilation32 > 1:
            dilate(self.stages[4], first=dilation32, rest=dilation32)
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.channels = self._count_channels(in_channels)

    def _count_channels(self, in_channels: int) -> tuple[int, ...]:
        training = self.training
        self.eval()
        with torch.no_grad():
            features = self(torch.zeros(1, in_channels, 64, 64))
        self.train(training)
        return tuple(feature.shape[1] for feature in features)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


def _halves(block: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.stride == (2, 2) for module in block.modules())
