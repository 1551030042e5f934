"""U-Net (Ronneberger et al., 2015, arXiv:1505.04597): a decoder that meets the encoder at every resolution.

Deviations: padded convolutions (the paper crops the skips instead), batch norm, Kaiming's weights by fan-out (the
paper's are by fan-in), and on an encoder whose finest feature has a stride above 1 the last stages have no skip, as is
common with ResNets.

segmentation_models_pytorch's Unet with `decoder_interpolation="bilinear"` has the same decoder as
`upsampling="bilinear"`; its classifier is a 3x3 convolution where the paper's is 1x1.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.encoder import Encoder, named_stages, stage_names
from segtrain.models.encoders.unet import UNetEncoder
from segtrain.models.layers import double_conv, fit, initialise, resize
from segtrain.models.network import SegmentationNetwork

UPSAMPLINGS = ("transposed", "bilinear")


class UNet(SegmentationNetwork):
    """The paper's network, or its decoder on another encoder.

    Args:
        num_classes: channels of the logits.
        encoder: None for the paper's, with 64 channels at full resolution and 1024 at the bottom.
        decoder_channels: of each decoder stage, coarsest first; None mirrors the paper's encoder, and is
            256, 128, 64, 32, 16 on others.
        upsampling: "transposed" 2x2 convolutions that also set the channels (the paper), or "bilinear".
        aux: {feature: weight} of auxiliary losses: stage1, ... are the encoder's features, finest first, and decoder1,
            ... the decoder's, coarsest first (deep supervision: Lee et al., 2015, arXiv:1409.5185).

    Raises:
        ValueError: if `decoder_channels` has another length than the decoder, or the encoder is dilated.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        decoder_channels: Sequence[int] | None = None,
        upsampling: str = "transposed",
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder() if encoder is None else encoder
        strides, channels = self.encoder.strides, self.encoder.channels
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling: {upsampling!r} is not one of {', '.join(UPSAMPLINGS)}")
        if strides[0] not in (1, 2, 4, 8):
            raise ValueError(f"encoder: U-Net needs a feature at stride 1 to 8; this encoder's finest is {strides[0]}")
        if any(coarse != 2 * fine for fine, coarse in itertools.pairwise(strides)):
            raise ValueError(f"encoder: U-Net needs strides that double, not {strides}; use output_stride 32")
        # back to full resolution without a skip
        skips = [*reversed(channels[:-1]), *[0] * (strides[0].bit_length() - 1)]
        if decoder_channels is None:
            decoder_channels = skips if isinstance(self.encoder, UNetEncoder) else _halving(256, len(skips))
        if len(decoder_channels) != len(skips):
            raise ValueError(f"decoder_channels: {len(decoder_channels)} given for {len(skips)} decoder stages")
        inputs = (channels[-1], *decoder_channels[:-1])
        self.decoder = nn.ModuleList(
            DecoderStage(i, skip, o, upsampling=upsampling)
            for i, skip, o in zip(inputs, skips, decoder_channels, strict=True)
        )
        self.classifier = nn.Conv2d(decoder_channels[-1], num_classes, 1)
        initialise(self.decoder)
        if isinstance(self.encoder, UNetEncoder):
            initialise(self.encoder)
        decoded = {f"decoder{n}": width for n, width in enumerate(decoder_channels, start=1)}
        self.auxiliary = AuxiliaryHeads(aux, channels=stage_names(self.encoder) | decoded, num_classes=num_classes)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        *skips, x = self.encoder(image)  # x: (N, C, H/16, W/16), or H/32
        kept = self.auxiliary.keep(named_stages([*skips, x]))
        doublings = len(self.decoder) - len(skips)  # without a skip
        for number, stage in enumerate(self.decoder, start=1):
            if skips:
                skip = skips.pop()
                x = stage(x, skip, like=skip)
            else:
                doublings -= 1
                # a view for its size alone: the image's, halved and rounded up
                x = stage(x, None, like=image[..., :: 2**doublings, :: 2**doublings])
            kept |= self.auxiliary.keep({f"decoder{number}": x})
        return self.auxiliary(self.classifier(x), kept)  # (N, num_classes, H, W)


class DecoderStage(nn.Module):
    """Double the size, concatenate the skip, two 3x3 convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, upsampling: str) -> None:
        super().__init__()
        self.up: nn.Module | None = None
        if upsampling == "transposed":
            self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
            in_channels = out_channels
        self.conv = double_conv(in_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None, *, like: Tensor) -> Tensor:
        x = resize(x, like) if self.up is None else fit(self.up(x), like)  # (N, C, 2h, 2w)
        return self.conv(x if skip is None else torch.cat([x, skip], dim=1))


def _halving(first: int, count: int) -> list[int]:
    return [max(first >> step, 16) for step in range(count)]
