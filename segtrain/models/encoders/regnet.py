"""RegNet (Radosavovic et al., 2020, arXiv:2003.13678) encoders on torchvision's networks."""

from typing import Any

from torch import nn

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import SequentialEncoder


class RegNetEncoder(SequentialEncoder):
    """Features of the stem and the four stages: strides 2, 4, 8, 16, 32. For the arguments see `SequentialEncoder`."""

    names = family("regnet")
    first_keeps = True

    def adopt(self, network: Any) -> None:
        self.stem, self.trunk_output = network.stem, network.trunk_output

    def layers(self) -> list[nn.Module]:
        return [self.stem, *self.trunk_output]
