"""ResNet (He et al., 2016, arXiv:1512.03385), ResNeXt and Wide ResNet encoders on torchvision's networks."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from segtrain.models.encoders.dilation import apply_multi_grid, dilations
from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import SequentialEncoder


class ResNetEncoder(SequentialEncoder):
    """Features of the stem and the four stages: strides 2, 4, 8, 16, 32.

    Args:
        name: one of `names`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, a .pth, .safetensors or .ckpt file, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation in the last one or two stages (as torchvision's DeepLab:
            the first block of a dilated stage keeps the dilation before it).
        multi_grid: for each block of the last stage, how many times the stage's dilation it has, such as 1, 2, 4
            (Chen et al., 2017, arXiv:1706.05587, section 3.2.1); None leaves it as above.

    Raises:
        ValueError: for a name, weights, output stride or multi-grid that the network does not have.
    """

    names = family("resnet", "resnext", "wide_resnet")
    first_keeps = True

    def __init__(
        self,
        name: str = "resnet50",
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
        multi_grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__(name, in_channels=in_channels, weights=weights, output_stride=output_stride)
        if multi_grid is not None:
            if output_stride == 32:
                raise ValueError("multi_grid: only a dilated last stage has one; give output_stride 16 or 8")
            apply_multi_grid(list(self.layer4), multi_grid, dilations(output_stride)[1])

    def adopt(self, network: Any) -> None:
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def layers(self) -> list[nn.Module]:
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [*stem, self.layer1, self.layer2, self.layer3, self.layer4]
