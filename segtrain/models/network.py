"""What the networks have in common: an encoder, auxiliary heads, and files of other libraries that fit."""

from torch import nn

from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.weights import WeightFile


class SegmentationNetwork(nn.Module):
    """Base of the networks: from images (N, channels, H, W) to logits (N, num_classes, H, W).

    Attributes:
        encoder: makes the features.
        auxiliary: the auxiliary heads, if any.
    """

    encoder: Encoder
    auxiliary: AuxiliaryHeads

    @property
    def aux_weights(self) -> dict[str, float]:
        """The weight of each auxiliary logits' loss, by its name in what `forward` returns in training."""
        return self.auxiliary.weights

    def read_features(self, *indices: int) -> None:
        """Tell the encoder which of its features the network and its auxiliary heads read."""
        stages = [int(name.removeprefix("stage")) - 1 for name in self.auxiliary.weights if name.startswith("stage")]
        self.encoder.use_features({*indices, *stages})

    def translate(self, file: WeightFile) -> WeightFile:
        """Return a file of another library under this network's names, if it is one."""
        return file
