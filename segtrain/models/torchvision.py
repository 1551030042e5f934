"""torchvision's segmentation networks as they are, with any number of classes and channels."""

import logging
import re
from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from segtrain.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from segtrain.models.encoders.pretrained import adapt_input, downloading, spread, statistics
from segtrain.models.layers import resize
from segtrain.models.weights import WeightFile, fit_weights, is_file_name, read_weights

log = logging.getLogger("segtrain")
NAMES = tuple(list_models(module=torchvision.models.segmentation))


class TorchvisionModel(nn.Module):
    """One of torchvision's segmentation networks, with any number of classes and channels.

    DeepLabv3 and LR-ASPP normalise the pooled image by the batch: in training they need two images or more.

    Args:
        num_classes: channels of the logits.
        name: one of `NAMES`.
        weights: a weight name of torchvision's, a .pth, .safetensors or .ckpt file, or None for random weights; with
            another number of classes than theirs, the last layers are new.
        in_channels: channels of the image; a pretrained first layer is adapted.
        aux: weight of the auxiliary loss, where the network has an auxiliary head; None for no head.

    Raises:
        ValueError: for a name or weights that torchvision does not have, or that cannot be downloaded.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: str = "fcn_resnet50",
        weights: str | None = None,
        in_channels: int = 3,
        aux: float | None = 0.5,
    ) -> None:
        super().__init__()
        if name not in NAMES:
            raise ValueError(f"name: torchvision has no segmentation network {name!r} (accepts: {', '.join(NAMES)})")
        has_aux = aux is not None and not name.startswith("lraspp")
        arguments = {} if name.startswith("lraspp") else {"aux_loss": has_aux}
        net = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **arguments)
        adapt_input(net, in_channels, pretrained=False)
        self.encoder, self.classifier = net.backbone, net.classifier
        self.aux_classifier = net.aux_classifier if has_aux else None
        self.aux_weights = {"aux": aux} if has_aux else {}
        self.mean, self.std = statistics(weights, in_channels)
        self.low_and_high = name.startswith("lraspp")
        if weights is not None:
            file = read_weights(Path(weights).expanduser()) if is_file_name(weights) else published(name, weights)
            tensors, found = self.translate(file)
            if found is not None:
                self.mean, self.std = (spread(values, in_channels) for values in found)
            log.info(f"model weights {weights}: {fit_weights(self, tensors).sentence()}")

    def translate(self, file: WeightFile) -> WeightFile:
        """Return torchvision's state dict under this network's names, with ImageNet's statistics."""
        if not any(name.startswith("backbone.") for name in file.tensors):
            return file
        tensors = {re.sub("^backbone", "encoder", name): tensor for name, tensor in file.tensors.items()}
        return WeightFile(tensors, file.statistics or (IMAGENET_MEAN, IMAGENET_STD))

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        logits = resize(self.classifier(features if self.low_and_high else features["out"]), like=image)
        if not self.training or self.aux_classifier is None:
            return logits
        return {"out": logits, "aux": resize(self.aux_classifier(features["aux"]), like=image)}


def published(name: str, weights: str) -> WeightFile:
    """Return a torchvision segmentation network's published tensors.

    Raises:
        ValueError: if torchvision has no such weights, or they cannot be downloaded.
    """
    known = {weight.name: weight for weight in get_model_weights(name)}
    if weights not in known:
        raise ValueError(f"weights: {name} has no {weights!r} (accepts: {', '.join(known) or 'none'}, a file, or null)")
    with downloading(f"{weights} of {name}"):
        return WeightFile(known[weights].get_state_dict(progress=False, check_hash=True))
