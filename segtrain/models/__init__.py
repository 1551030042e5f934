"""The networks: one paper a file, plain torch, no Lightning and no config objects."""

from segtrain.models.deeplabv3 import DeepLabV3
from segtrain.models.deeplabv3plus import DeepLabV3Plus
from segtrain.models.fcn import FCN, DilatedFCN
from segtrain.models.pspnet import PSPNet
from segtrain.models.segnet import SegNet
from segtrain.models.smp import SMPModel
from segtrain.models.torchvision import TorchvisionModel
from segtrain.models.unet import UNet

__all__ = [
    "FCN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "DilatedFCN",
    "PSPNet",
    "SMPModel",
    "SegNet",
    "TorchvisionModel",
    "UNet",
]
