"""Encoders: multi-scale features with their channels and strides; one family a file."""

from segtrain.models.encoders.encoder import Encoder
from segtrain.models.encoders.mobilenet import MobileNetEncoder
from segtrain.models.encoders.resnet import ResNetEncoder
from segtrain.models.encoders.unet import UNetEncoder

__all__ = ["Encoder", "MobileNetEncoder", "ResNetEncoder", "UNetEncoder"]
