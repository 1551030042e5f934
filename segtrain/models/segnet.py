"""SegNet (Badrinarayanan et al., 2017, arXiv:1511.00561): up-sampling by the indices of the encoder's max poolings.

Deviations: none in the layers, but that the decoder's batch norms follow torchvision's VGG in momentum and epsilon and
its ReLUs can be kept in SegNet-Basic (`decoder_relu`, which the paper leaves out there). Initialisation is Kaiming's.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.segnet import PoolingEncoder
from segtrain.models.encoders.vgg import VGGEncoder
from segtrain.models.layers import conv_norm_relu, initialise
from segtrain.models.network import SegmentationNetwork


class SegNet(SegmentationNetwork):
    """The encoder's convolutions mirrored, with unpooling where the encoder pools.

    Args:
        num_classes: channels of the logits.
        encoder: VGG with or without batch norm, or SegNet-Basic's; None for the paper's VGG-16 with batch norm.
        decoder_relu: ReLU after the decoder's norms; SegNet-Basic has none.
        aux: {feature: weight} of auxiliary losses: stage1 to stage5 are the poolings, decoder1 to decoder5 what the
            decoder makes of them, coarsest first.

    Raises:
        ValueError: for an encoder that has no poolings to undo, or is dilated.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        decoder_relu: bool = True,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        encoder = VGGEncoder("vgg16_bn") if encoder is None else encoder
        if not isinstance(encoder, PoolingEncoder):
            raise ValueError(
                f"encoder: SegNet undoes max poolings by their indices, and {type(encoder).__name__} has none; choose "
                "vgg16_bn, another VGG or segnet_basic"
            )
        if getattr(encoder, "fc_as_conv", False) or len(set(encoder.strides)) != len(encoder.strides):
            raise ValueError("encoder: SegNet needs every pooling and nothing after them; give VGG output_stride 32")
        self.encoder: PoolingEncoder = encoder
        stages = [_conv_shapes(stage) for stage in encoder.convolutions()]
        (_, width, size), *rest = stages[0]
        # the mirror of the convolution that sees the image gives the classes; where it is its stage's only one
        # (SegNet-Basic) it keeps the width, and a 1x1 convolution gives the classes
        self.classifier = nn.Conv2d(width, num_classes, size if rest else 1, padding=size // 2 if rest else 0)
        stages[0] = rest or [(width, width, size)]
        self.decoder = nn.ModuleList(_mirror(stage, relu=decoder_relu) for stage in reversed(stages))
        initialise(self.decoder)
        pooled = {f"stage{n}": stage[-1][1] for n, stage in enumerate(stages, start=1)}
        decoded = {f"decoder{n}": stage[0][0] for n, stage in enumerate(reversed(stages), start=1)}
        self.auxiliary = AuxiliaryHeads(aux, channels=pooled | decoded, num_classes=num_classes)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        x, poolings = image, []
        kept: dict[str, Tensor] = {}
        for number, stage in enumerate(self.encoder.convolutions(), start=1):
            for layer in stage:
                x = layer(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)  # half of H and W, rounded down
            poolings.append((indices, size))
            kept |= self.auxiliary.keep({f"stage{number}": x})
        for number, decode in enumerate(self.decoder, start=1):
            x = decode(unpool(x, *poolings.pop()))  # twice H and W
            kept |= self.auxiliary.keep({f"decoder{number}": x})
        return self.auxiliary(self.classifier(x), kept)  # (N, num_classes, H, W)


def unpool(x: Tensor, indices: Tensor, size: tuple[int, ...]) -> Tensor:
    """Put every value back to where max pooling found it, zeros elsewhere, as `F.max_unpool2d`.

    By `scatter`, which is deterministic on CUDA and exports; pixel by pixel with the channels last, so that
    the result has that memory format and the convolutions after it need no copy.

    Args:
        x: (N, C, h, w).
        indices: (N, C, h, w), each a position in the (H, W) plane, as `F.max_pool2d` returns them.
        size: (H, W).
    """
    n, channels = x.shape[:2]
    height, width = size
    values, places = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (x, indices))  # (N, h * w, C)
    out = values.new_zeros(n, height * width, channels).scatter(1, places, values)
    return out.view(n, height, width, channels).permute(0, 3, 1, 2)


def _conv_shapes(stage: list[nn.Module]) -> list[tuple[int, int, int]]:
    """Return (in, out, kernel size) of a stage's convolutions."""
    convs = [module for layer in stage for module in layer.modules() if isinstance(module, nn.Conv2d)]
    return [(conv.in_channels, conv.out_channels, int(conv.kernel_size[0])) for conv in convs]


def _mirror(stage: list[tuple[int, int, int]], *, relu: bool) -> nn.Sequential:
    """Return the stage's convolutions backwards, each with its norm."""
    blocks = [conv_norm_relu(o, i, size) for i, o, size in reversed(stage)]
    return nn.Sequential(*(block if relu else block[:2] for block in blocks))
