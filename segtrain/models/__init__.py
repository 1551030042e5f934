"""The networks: one paper a file, plain torch, no Lightning and no config objects."""

from segtrain.models.deeplabv3plus import DeepLabV3Plus
from segtrain.models.unet import UNet

__all__ = ["DeepLabV3Plus", "UNet"]
