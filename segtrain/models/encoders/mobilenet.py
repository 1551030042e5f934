"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381) and V3 (Howard et al., 2019) encoders on torchvision's."""

from segtrain.models.encoders.pretrained import family
from segtrain.models.encoders.sequential import SequentialEncoder


class MobileNetEncoder(SequentialEncoder):
    """The last feature of every stride: 2, 4, 8, 16, 32.

    The classifier's last 1x1 convolution (to 1280, 960 or 576 channels) is part of the deepest feature, as in
    torchvision's DeepLabv3 and LR-ASPP on MobileNetV3. For the arguments see `SequentialEncoder`.
    """

    names = family("mobilenet")
