"""PSPNet (Zhao et al., 2017, arXiv:1612.01105): what the image looks like as a whole, in halves, thirds and sixths.

Deviations: the encoder is torchvision's ResNet, whose stem is one 7x7 convolution where the authors' is three 3x3, and
where the first block of a dilated stage keeps the dilation before it; the pooled features are resized with
`align_corners=False`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.dilation import check_output_stride
from segtrain.models.encoders.encoder import Encoder, check_encoder_stride, named_stages, stage_names
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.layers import PooledBatchNorm2d, conv_norm_relu, initialise, resize
from segtrain.models.network import SegmentationNetwork


class PSPNet(SegmentationNetwork):
    """A dilated encoder, the pyramid pooling module of the paper's section 3.2, and its classifier.

    Args:
        num_classes: channels of the logits.
        encoder: None for ResNet-50.
        output_stride: 8 (the paper), 16, or 32 for encoders that cannot be dilated; must be the encoder's.
        bins: cells along a side at each level of the pyramid.
        channels: after the pyramid.
        dropout: before the classifier, as in the authors' code.
        aux: {feature: weight} of auxiliary losses, by default the paper's 0.4 on the second deepest feature; {} for
            none.

    Attributes:
        min_size: pixels along a side below which the finest level has cells that share all their pixels.

    Raises:
        ValueError: if the encoder has another output stride.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        output_stride: int = 8,
        bins: Sequence[int] = (1, 2, 3, 6),
        channels: int = 512,
        dropout: float = 0.1,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride)
        self.encoder = ResNetEncoder("resnet50", output_stride=output_stride) if encoder is None else encoder
        check_encoder_stride(self.encoder, output_stride)
        self.min_size = max(bins) * output_stride
        deep = self.encoder.channels[-1]
        self.pyramid = PyramidPooling(deep, bins=bins)
        self.classifier = nn.Sequential(
            conv_norm_relu(self.pyramid.out_channels, channels),
            nn.Dropout(dropout),
            nn.Conv2d(channels, num_classes, 1),
        )
        initialise(self.pyramid)
        initialise(*list(self.classifier)[:-1])
        names = stage_names(self.encoder)
        self.auxiliary = AuxiliaryHeads(
            {[*names][-2]: 0.4} if aux is None else aux, channels=names, num_classes=num_classes
        )
        self.read_features(-1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        x = self.pyramid(features[-1])  # (N, 2 * 2048, H/8, W/8)
        logits = resize(self.classifier(x), like=image)  # (N, num_classes, H, W)
        return self.auxiliary(logits, named_stages(features))


class PyramidPooling(nn.Module):
    """Average pooling to each number of bins, 1x1 convolution, norm, ReLU, and back beside the input.

    Pooling is two small matrix products, one along each side, for all levels at once: the input is read once, and the
    products export with dynamic sizes, where adaptive pooling does not.

    Args:
        in_channels: channels of the input; every level gets an equal share of as many.
        bins: cells along a side at each level.
    """

    def __init__(self, in_channels: int, *, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = tuple(bins)
        share = in_channels // len(bins)
        self.out_channels = in_channels + len(bins) * share
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, share, 1, bias=False), PooledBatchNorm2d(share), nn.ReLU(inplace=True))
            for _ in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (pooling_matrix(size, self.bins, like=x) for size in x.shape[-2:])
        pooled = torch.matmul(rows, torch.matmul(x, columns.T))  # (N, C, 12, 12): every level by every level
        cells = [pooled[..., i : i + n, i : i + n] for i, n in zip(_starts(self.bins), self.bins, strict=True)]
        context = [resize(level(cell), like=x) for level, cell in zip(self.levels, cells, strict=True)]
        return torch.cat([x, *context], dim=1)


def pooling_matrix(size: int, bins: Sequence[int], *, like: Tensor) -> Tensor:
    """Return (sum of bins, size): row by row, the weights that adaptive average pooling gives `size` pixels.

    Args:
        size: pixels along a side; a symbol under export.
        bins: cells of each level; cell i of n covers pixels floor(i * size / n) to ceil((i + 1) * size / n).
        like: gives dtype and device.
    """
    cell = torch.cat([torch.arange(n, device=like.device) for n in bins])[:, None]  # (12, 1)
    count = torch.cat([torch.full((n,), n, device=like.device) for n in bins])[:, None]
    pixel = torch.arange(size, device=like.device)  # (size,)
    first, end = cell * size // count, -(-(cell + 1) * size // count)
    inside = (pixel >= first) & (pixel < end)
    return inside.to(like.dtype) / (end - first)


def _starts(bins: Sequence[int]) -> list[int]:
    return [sum(bins[:index]) for index in range(len(bins))]
