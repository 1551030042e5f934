"""DeepLabv3+ (Chen et al., 2018, arXiv:1802.02611): atrous pyramid pooling, then a decoder with one fine skip.

Deviations: the encoders are torchvision's and timm's, where the paper has modified Xception and ResNet-101; the
decoder's two 3x3 convolutions and the pyramid are separable by default, as the paper's best model.

segmentation_models_pytorch's DeepLabV3Plus has the same 1x1 branch, pooled branch and 48-channel skip, and the same
encoder but for the first convolution of a dilated stage, which it dilates as those after it. It differs in its
separable convolutions, which have no norm and ReLU between their two parts, in a further separable convolution after
the pyramid, in one decoder convolution where the paper has two, and in `align_corners=True`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.deeplabv3 import AtrousPyramid, check_rates
from segtrain.models.encoders.dilation import check_output_stride
from segtrain.models.encoders.encoder import Encoder, check_encoder_stride, named_stages, stage_names
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.layers import conv_norm_relu, initialise, resize
from segtrain.models.network import SegmentationNetwork


class DeepLabV3Plus(SegmentationNetwork):
    """Encoder, atrous spatial pyramid pooling, and the decoder of the paper's section 3.1.

    Args:
        num_classes: channels of the logits.
        encoder: features at stride 4 and at the output stride; None for a ResNet-50.
        output_stride: 16, 8, or 32 for encoders that cannot be dilated; must be the encoder's.
        atrous_rates: of the pyramid's 3x3 branches; None for the paper's at this output stride.
        separable: depthwise separable 3x3 convolutions.
        channels: of the pyramid and the decoder.
        skip_channels: what the stride-4 feature is reduced to.
        dropout: after the pyramid, as in the authors' code.
        aux: {feature: weight} of auxiliary losses, such as {"stage4": 0.4}.

    Raises:
        ValueError: if the encoder has another output stride, or no feature at stride 4.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        output_stride: int = 16,
        atrous_rates: Sequence[int] | None = None,
        separable: bool = True,
        channels: int = 256,
        skip_channels: int = 48,
        dropout: float = 0.1,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride)
        self.encoder = ResNetEncoder("resnet50", output_stride=output_stride) if encoder is None else encoder
        check_encoder_stride(self.encoder, output_stride)
        self.skip_index = self.encoder.feature_at(4)
        rates = check_rates(atrous_rates, output_stride)
        self.pyramid = AtrousPyramid(
            self.encoder.channels[-1], channels, rates=rates, separable=separable, dropout=dropout
        )
        self.skip = conv_norm_relu(self.encoder.channels[self.skip_index], skip_channels, 1)
        self.decoder = nn.Sequential(
            conv_norm_relu(channels + skip_channels, channels, separable=separable),
            conv_norm_relu(channels, channels, separable=separable),
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        for part in (self.pyramid, self.skip, self.decoder):
            initialise(part)
        self.auxiliary = AuxiliaryHeads(aux, channels=stage_names(self.encoder), num_classes=num_classes)
        self.read_features(self.skip_index, -1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        skip = self.skip(features[self.skip_index])  # (N, 48, H/4, W/4)
        context = self.pyramid(features[-1])  # (N, 256, H/16, W/16), or H/8
        x = self.decoder(torch.cat([resize(context, like=skip), skip], dim=1))  # (N, 256, H/4, W/4)
        logits = resize(self.classifier(x), like=image)  # (N, num_classes, H, W)
        return self.auxiliary(logits, named_stages(features))
