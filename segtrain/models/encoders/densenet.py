"""DenseNet (Huang et al., 2017, arXiv:1608.06993) encoders on torchvision's networks."""

import re

from torch import Tensor

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import SequentialEncoder
from segtrain.models.weights import Weights


class DenseNetEncoder(SequentialEncoder):
    """Features of the stem and the four dense blocks: strides 2, 4, 8, 16, 32; the last with its norm and ReLU.

    For the arguments see `SequentialEncoder`.
    """

    names = family("densenet")
    first_keeps = True

    def translate(self, weights: Weights) -> Weights:
        # files before torchvision 0.3 say norm.1 where it now says norm1
        return {re.sub(r"(denselayer\d+\.\w+)\.([12])\.", r"\1\2.", name): tensor for name, tensor in weights.items()}

    def forward(self, image: Tensor) -> list[Tensor]:
        *features, last = super().forward(image)
        return [*features, last.relu()]
