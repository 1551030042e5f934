"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545) encoders on torchvision's networks."""

from torch import Tensor

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import PatchEncoder


class ConvNeXtEncoder(PatchEncoder):
    """The four stages, strides 4, 8, 16, 32, each followed by a layer norm, as in the authors' segmentation networks.

    For the arguments see `StochasticDepthEncoder`.
    """

    names = family("convnext")
    first_keeps = True

    def forward(self, image: Tensor) -> list[Tensor]:
        features = super().forward(image)
        return [
            norm(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over the channels of each pixel
            for norm, feature in zip(self.norms, features, strict=True)
        ]
