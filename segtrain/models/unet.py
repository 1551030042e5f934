"""U-Net (Ronneberger et al., 2015, arXiv:1505.04597): a decoder that meets the encoder at every resolution.

Deviations: padded convolutions (the paper crops the skips instead), batch norm, and on an encoder whose finest
feature has a stride above 1 a last stage without a skip, as is common with ResNets.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.unet import UNetEncoder
from segtrain.models.layers import double_conv, initialise

UPSAMPLINGS = ("transposed", "bilinear")


class UNet(nn.Module):
    """The paper's network, or its decoder on another encoder.

    Args:
        num_classes: channels of the logits.
        encoder: None for the paper's, with 64 channels at full resolution and 1024 at the bottom.
        decoder_channels: of each decoder stage, coarsest first; None mirrors the paper's encoder, and is
            256, 128, 64, 32, 16 on others.
        upsampling: "transposed" 2x2 convolutions that also set the channels (the paper), or "bilinear".

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
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder() if encoder is None else encoder
        strides, channels = self.encoder.strides, self.encoder.channels
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling: {upsampling!r} is not one of {', '.join(UPSAMPLINGS)}")
        if strides[0] > 2:
            raise ValueError(f"encoder: U-Net needs a feature at stride 1 or 2; this encoder's finest is {strides[0]}")
        if any(coarse != 2 * fine for fine, coarse in itertools.pairwise(strides)):
            raise ValueError(f"encoder: U-Net needs strides that double, not {strides}; use output_stride 32")
        skips = [*reversed(channels[:-1])]
        if strides[0] == 2:
            skips.append(0)  # back to full resolution without a skip
        if decoder_channels is None:
            own = isinstance(self.encoder, UNetEncoder)
            decoder_channels = skips if own else (256, 128, 64, 32, 16)[: len(skips)]
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

    def forward(self, image: Tensor) -> Tensor:
        *skips, x = self.encoder(image)  # x: (N, C, H/16, W/16), or H/32
        for stage in self.decoder:
            size = skips[-1] if skips else image
            x = stage(x, skips.pop() if skips else None, size.shape[-2:])  # twice the height and width
        return self.classifier(x)  # (N, num_classes, H, W)


class DecoderStage(nn.Module):
    """Double the size, concatenate the skip, two 3x3 convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, upsampling: str) -> None:
        super().__init__()
        self.up: nn.Module | None = None
        if upsampling == "transposed":
            self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
            in_channels = out_channels
        self.conv = double_conv(in_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None, size: torch.Size) -> Tensor:
        if self.up is None:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        else:
            x = self.up(x)
            x = x[..., : size[0], : size[1]]  # an odd size was rounded up on the way down
        return self.conv(x if skip is None else torch.cat([x, skip], dim=1))
