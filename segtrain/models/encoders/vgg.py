"""VGG (Simonyan and Zisserman, 2015, arXiv:1409.1556) encoders on torchvision's, with or without batch norm."""

from typing import Any

from torch import nn

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.segnet import PoolingEncoder
from segtrain.models.encoders.sequential import SequentialEncoder
from segtrain.models.weights import Weights


class VGGEncoder(SequentialEncoder, PoolingEncoder):
    """The five poolings, strides 2, 4, 8, 16, 32, or what comes before each.

    Args:
        name: one of `names`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, a .pth, .safetensors or .ckpt file, or None for random weights.
        output_stride: 32; 16 or 8 do the last poolings without their stride and dilate what follows (Chen et al.,
            2015, arXiv:1412.7062, section 3.1).
        before_pooling: the features are those before each pooling, strides 1 to 16, and the last pooling's.
        fc_as_conv: the classifier's fc6 (7x7) and fc7 (1x1), 4096 channels each, follow the last pooling as
            convolutions (Long et al., 2015, arXiv:1411.4038, section 3.1), with the classifier's weights.
        dropout: after fc6 and fc7.

    Raises:
        ValueError: for a name, weights or an output stride that the network does not have.
    """

    names = family("vgg")
    first_keeps = True

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
        before_pooling: bool = False,
        fc_as_conv: bool = False,
        dropout: float = 0.5,
    ) -> None:
        # first, for adopt and _find_features, which the constructor calls
        self.before_pooling, self.fc_as_conv, self.dropout = before_pooling, fc_as_conv, dropout
        super().__init__(name, in_channels=in_channels, weights=weights, output_stride=output_stride)

    def adopt(self, network: Any) -> None:
        super().adopt(network)
        if self.fc_as_conv:
            fc6, fc7 = nn.Conv2d(512, 4096, 7, padding=3), nn.Conv2d(4096, 4096, 1)
            for conv, linear in ((fc6, network.classifier[0]), (fc7, network.classifier[3])):
                conv.weight.data = linear.weight.data.view(conv.weight.shape)
                conv.bias = linear.bias
            self.fc6 = nn.Sequential(fc6, nn.ReLU(inplace=True), nn.Dropout(self.dropout))
            self.fc7 = nn.Sequential(fc7, nn.ReLU(inplace=True), nn.Dropout(self.dropout))

    def translate(self, weights: Weights) -> Weights:
        if not self.fc_as_conv:
            return weights
        translated = {}
        for name, tensor in weights.items():  # fully connected layers are matrices
            for linear, conv, side in (("classifier.0.", "fc6.0.", 7), ("classifier.3.", "fc7.0.", 1)):
                if name.endswith(f"{linear}weight") and tensor.ndim == 2:
                    tensor = tensor.view(tensor.shape[0], -1, side, side)
                name = name.replace(linear, conv)
            translated[name] = tensor
        return translated

    def layers(self) -> list[nn.Module]:
        return [*super().layers(), *([self.fc6, self.fc7] if self.fc_as_conv else [])]

    def _find_features(self, in_channels: int) -> None:
        super()._find_features(in_channels)
        if not self.before_pooling:  # strides 1 to 8 move onto the pooling that follows; 16 is the fifth stage's inside
            self.taps = (*(tap + 1 for tap in self.taps[:4]), self.taps[-1])
            self.strides, self.channels = self.strides[1:], (*self.channels[:4], self.channels[-1])

    def convolutions(self) -> list[list[nn.Module]]:
        """Return the layers before each of the poolings."""
        stages: list[list[nn.Module]] = [[]]
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                stages.append([])
            else:
                stages[-1].append(layer)
        return stages[:-1]
