"""SegNet-Basic's encoder (Badrinarayanan et al., 2017, arXiv:1511.00561, section 3.1); what SegNet's decoder needs."""

from abc import abstractmethod

from torch import Tensor, nn

from segtrain.models.encoders.encoder import Encoder
from segtrain.models.layers import conv_norm_relu


class PoolingEncoder(Encoder):
    """An encoder of convolutions with 2x2 max poolings, which a decoder can undo by the poolings' indices."""

    @abstractmethod
    def convolutions(self) -> list[list[nn.Module]]:
        """Return the layers before each of the poolings."""


class SegNetBasicEncoder(PoolingEncoder):
    """One convolution with norm and ReLU before each pooling, the same number of channels everywhere.

    Args:
        in_channels: channels of the image.
        base_channels: of every feature.
        depth: number of poolings.
        kernel_size: an odd number.

    Raises:
        ValueError: if `depth` is below 1 or `kernel_size` even.
    """

    def __init__(self, *, in_channels: int = 3, base_channels: int = 64, depth: int = 4, kernel_size: int = 7) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth: {depth} leaves nothing to pool; give 1 or more")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: {kernel_size} is even, and such a convolution changes the size; give 7")
        self.channels = (base_channels,) * depth
        self.strides = tuple(2**level for level in range(1, depth + 1))
        self.mean, self.std = (0.5,) * in_channels, (0.5,) * in_channels
        inputs = (in_channels, *self.channels[:-1])
        self.blocks = nn.ModuleList(conv_norm_relu(i, base_channels, kernel_size) for i in inputs)
        self.pool = nn.MaxPool2d(2)

    def convolutions(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]

    def stages(self) -> list[list[nn.Module]]:
        return self.convolutions()

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for block in self.blocks:
            image = self.pool(block(image))
            features.append(image)
        return features
