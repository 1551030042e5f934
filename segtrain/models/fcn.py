"""FCN (Long et al., 2015, arXiv:1411.4038): a classifier made convolutional, and skips that sharpen its output.

Deviations: the image is not padded by 100 pixels and the output not cropped, as every convolution keeps the size;
the stages are trained at once and not FCN-32s first; the last, fixed up-sampling is `interpolate`, which differs
from the paper's transposed convolution in the outermost pixels alone. `DilatedFCN` is torchvision's and
mmsegmentation's FCN, with dilation in place of skips: the paper precedes it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.dilation import check_output_stride
from segtrain.models.encoders.encoder import Encoder, check_encoder_stride, named_stages, stage_names
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.encoders.vgg import VGGEncoder
from segtrain.models.layers import FCNHead, fit, initialise, resize
from segtrain.models.network import SegmentationNetwork
from segtrain.models.torchvision_keys import from_torchvision
from segtrain.models.weights import WeightFile


class FCN(SegmentationNetwork):
    """FCN-32s, FCN-16s or FCN-8s.

    Args:
        num_classes: channels of the logits.
        encoder: None for the paper's, VGG-16 with fc6 and fc7 as convolutions.
        stride: of the finest prediction: 32, 16 (one skip) or 8 (two).
        learned_upsampling: the last up-sampling is a transposed convolution, bilinear at first; the paper fixes it
            (section 4.3), and learns those before it.
        aux: {feature: weight} of auxiliary losses, such as {"stage4": 0.4}.

    Raises:
        ValueError: for another stride, or an encoder without the strides that the skips need.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        stride: int = 8,
        learned_upsampling: bool = False,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        if stride not in (8, 16, 32):
            raise ValueError(f"stride: {stride} is not one of 8, 16, 32")
        self.encoder = VGGEncoder("vgg16", fc_as_conv=True) if encoder is None else encoder
        if self.encoder.strides[-1] != 32:
            raise ValueError(
                f"encoder: FCN needs output_stride 32, and this encoder's is {self.encoder.strides[-1]}; "
                "model=fcn is the dilated one"
            )
        channels = self.encoder.channels
        self.skips = [self.encoder.feature_at(finer) for finer in (16, 8) if finer >= stride]
        self.score = nn.Conv2d(channels[-1], num_classes, 1)
        self.skip_scores = nn.ModuleList(nn.Conv2d(channels[index], num_classes, 1) for index in self.skips)
        self.doublings = nn.ModuleList(BilinearTransposed(num_classes, 2) for _ in self.skips)
        self.upsampling = BilinearTransposed(num_classes, stride) if learned_upsampling else None
        for scorer in (self.score, *self.skip_scores):  # section 4.3: random values brought nothing
            nn.init.zeros_(scorer.weight)
            nn.init.zeros_(scorer.bias)
        self.auxiliary = AuxiliaryHeads(aux, channels=stage_names(self.encoder), num_classes=num_classes)
        self.read_features(*self.skips, -1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        x = self.score(features[-1])  # (N, num_classes, H/32, W/32)
        for index, score, double in zip(self.skips, self.skip_scores, self.doublings, strict=True):
            skip = score(features[index])  # (N, num_classes, H/16, W/16), then H/8
            x = fit(double(x), like=skip) + skip
        logits = resize(x, like=image) if self.upsampling is None else self._upsample(x, image)
        return self.auxiliary(logits, named_stages(features))  # (N, num_classes, H, W)

    def _upsample(self, x: Tensor, image: Tensor) -> Tensor:
        assert self.upsampling is not None
        x = self.upsampling(x)
        covers = x.shape[-2] >= image.shape[-2] and x.shape[-1] >= image.shape[-1]
        return fit(x, like=image) if covers else resize(x, like=image)  # an encoder may round odd sizes down


class BilinearTransposed(nn.ConvTranspose2d):
    """A transposed convolution that multiplies the size and begins as bilinear interpolation (section 3.3).

    Args:
        channels: of input and output.
        factor: an even number.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 2 * factor, stride=factor, padding=factor // 2, bias=False)
        ramp = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
        with torch.no_grad():
            self.weight.zero_()
            for channel in range(channels):
                self.weight[channel, channel] = torch.outer(ramp, ramp)


class DilatedFCN(SegmentationNetwork):
    """A dilated encoder and a small convolutional head: torchvision's FCN.

    torchvision's state dicts load by `segtrain.models.torchvision_keys.translate`.

    Args:
        num_classes: channels of the logits.
        encoder: None for ResNet-50.
        output_stride: 8, 16 or 32; must be the encoder's.
        dropout: before the classifier.
        aux: {feature: weight} of auxiliary losses, by default that of torchvision's training script, 0.5 on the
            second deepest feature; {} for none.

    Raises:
        ValueError: if the encoder has another output stride.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: Encoder | None = None,
        output_stride: int = 8,
        dropout: float = 0.1,
        aux: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride)
        self.encoder = ResNetEncoder("resnet50", output_stride=output_stride) if encoder is None else encoder
        check_encoder_stride(self.encoder, output_stride)
        self.classifier = FCNHead(self.encoder.channels[-1], num_classes, dropout=dropout)
        initialise(*list(self.classifier)[:-1])
        names = stage_names(self.encoder)
        self.auxiliary = AuxiliaryHeads(
            {[*names][-2]: 0.5} if aux is None else aux, channels=names, num_classes=num_classes
        )
        self.read_features(-1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        logits = resize(self.classifier(features[-1]), like=image)  # (N, num_classes, H, W) from H/8
        return self.auxiliary(logits, named_stages(features))

    def translate(self, file: WeightFile) -> WeightFile:
        """Return a torchvision FCN's file under our names."""
        return from_torchvision(file)
