"""Encoders: multi-scale features with their channels and strides; one family a file."""

from segtrain.models.encoders.convnext import ConvNeXtEncoder
from segtrain.models.encoders.densenet import DenseNetEncoder
from segtrain.models.encoders.efficientnet import EfficientNetEncoder
from segtrain.models.encoders.efficientnet_lite import EfficientNetLiteEncoder
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.mobilenet import MobileNetEncoder
from segtrain.models.encoders.regnet import RegNetEncoder
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.encoders.segnet import SegNetBasicEncoder
from segtrain.models.encoders.swin import SwinEncoder
from segtrain.models.encoders.timm import TimmEncoder
from segtrain.models.encoders.unet import UNetEncoder
from segtrain.models.encoders.vgg import VGGEncoder

__all__ = [
    "ConvNeXtEncoder",
    "DenseNetEncoder",
    "EfficientNetEncoder",
    "EfficientNetLiteEncoder",
    "Encoder",
    "MobileNetEncoder",
    "RegNetEncoder",
    "ResNetEncoder",
    "SegNetBasicEncoder",
    "SwinEncoder",
    "TimmEncoder",
    "UNetEncoder",
    "VGGEncoder",
]
