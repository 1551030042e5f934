"""EfficientNet (Tan and Le, 2019, arXiv:1905.11946) and V2 (2021, arXiv:2104.00298) encoders on torchvision's."""

from typing import Any

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import StochasticDepthEncoder


class EfficientNetEncoder(StochasticDepthEncoder):
    """The last feature of every stride: 2, 4, 8, 16, 32.

    The classifier's last 1x1 convolution (to 1280 channels and more) is left out, as in most decoders' encoders.
    For the arguments see `StochasticDepthEncoder`.
    """

    names = family("efficientnet")
    first_keeps = True

    def adopt(self, network: Any) -> None:
        self.features = network.features[:-1]
        self.beyond = (f"features.{len(self.features)}.",)
