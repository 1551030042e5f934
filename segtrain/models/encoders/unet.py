"""U-Net's contracting path (Ronneberger et al., 2015, arXiv:1505.04597, section 2)."""

from torch import Tensor, nn

from segtrain.models.encoders.encoder import Encoder
from segtrain.models.layers import double_conv


class UNetEncoder(Encoder):
    """Double convolutions with max pooling between them; channels double at every step down.

    Deviations from the paper: padded convolutions, so that the mask has the image's size, and batch
    norm, which the paper precedes.

    Args:
        in_channels: channels of the image.
        base_channels: channels at full resolution.
        depth: number of features; the paper's five have strides 1 to 16.
        dropout: at the end, as the paper's section 3.1; the paper does not say how much.

    Raises:
        ValueError: if `depth` is below 2.
    """

    def __init__(self, *, in_channels: int = 3, base_channels: int = 64, depth: int = 5, dropout: float = 0.5) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth: {depth} leaves nothing to connect; give 2 or more")
        self.channels = tuple(base_channels * 2**level for level in range(depth))
        self.strides = tuple(2**level for level in range(depth))
        self.mean, self.std = (0.5,) * in_channels, (0.5,) * in_channels
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        inputs = (in_channels, *self.channels[:-1])
        self.blocks = nn.ModuleList(double_conv(i, o) for i, o in zip(inputs, self.channels, strict=True))
        self.dropout = nn.Dropout(dropout)

    def stages(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.blocks[0](image)]  # (N, base, H, W)
        for block in self.blocks[1:]:
            features.append(block(self.pool(features[-1])))  # twice the channels, half of H and W, rounded up
        return [*features[:-1], self.dropout(features[-1])]
