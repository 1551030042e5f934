"""State dicts of torchvision's FCN and DeepLabv3 for ours: which name becomes which."""

import re

from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from segtrain.models.weights import WeightFile, Weights

# (torchvision's, ours): the first that matches is replaced
FCN_KEYS = (
    (r"^backbone\.", "encoder."),
    (r"^classifier\.", "classifier."),
    (r"^aux_classifier\.", "auxiliary.heads.stage4."),
)
DEEPLABV3_KEYS = (
    (r"^backbone\.(?=\d)", "encoder.features."),  # MobileNet
    (r"^backbone\.", "encoder."),  # ResNet
    (r"^classifier\.0\.convs\.4\.1\.", "pyramid.branches.4.conv."),
    (r"^classifier\.0\.convs\.4\.2\.", "pyramid.branches.4.norm."),
    (r"^classifier\.0\.convs\.", "pyramid.branches."),
    (r"^classifier\.0\.project\.", "pyramid.project.0."),
    (r"^classifier\.1\.", "head.0."),
    (r"^classifier\.2\.", "head.1."),
    (r"^classifier\.4\.", "classifier."),
    (r"^aux_classifier\.", "auxiliary.heads.stage4."),
)


def is_torchvisions(weights: Weights) -> bool:
    """Say whether these are a torchvision FCN's or DeepLabv3's tensors."""
    return any(name.startswith("backbone.") for name in weights) and "classifier.4.weight" in weights


def from_torchvision(file: WeightFile) -> WeightFile:
    """Return a torchvision FCN's or DeepLabv3's file under our names with ImageNet's statistics; others as they are."""
    if not is_torchvisions(file.tensors):
        return file
    return WeightFile(translate(file.tensors), (IMAGENET_MEAN, IMAGENET_STD))


def translate(weights: Weights) -> Weights:
    """Return the tensors of torchvision's FCN or DeepLabv3 under our names.

    FCN: `DilatedFCN` on the same ResNet with output stride 8. DeepLabv3: `DeepLabV3(head_conv=True,
    atrous_rates=(12, 24, 36))` on the same ResNet with output stride 8, or on MobileNetV3 with 16. The auxiliary
    head becomes that of stage4; torchvision's on MobileNetV3 reads another feature, and no network of ours has it.
    """
    deeplab = "classifier.0.convs.0.0.weight" in weights
    renamed = {}
    for name, tensor in weights.items():
        for pattern, ours in DEEPLABV3_KEYS if deeplab else FCN_KEYS:
            if re.match(pattern, name):
                renamed[re.sub(pattern, ours, name)] = tensor
                break
    return renamed
