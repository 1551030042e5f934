"""Swin Transformer (Liu et al., 2021, arXiv:2103.14030; V2: 2022, arXiv:2111.09883) encoders on torchvision's."""

from torch import Tensor

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import PatchEncoder


class SwinEncoder(PatchEncoder):
    """The four stages, strides 4, 8, 16, 32, each followed by a layer norm, as in the authors' segmentation networks.

    Attention cannot be dilated: the output stride is 32. For the arguments see `StochasticDepthEncoder`.
    """

    names = family("swin_")
    output_strides = (32,)
    channel_dim = -1

    def forward(self, image: Tensor) -> list[Tensor]:
        features = super().forward(image)  # torchvision's have the channels last: (N, h, w, C)
        return [norm(feature).permute(0, 3, 1, 2) for norm, feature in zip(self.norms, features, strict=True)]
