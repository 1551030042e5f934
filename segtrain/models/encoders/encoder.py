"""The contract between an encoder and the decoders that use it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module, ABC):
    """A network that turns an image into features at several strides, finest first.

    Attributes:
        channels: channels of each feature.
        strides: how many input pixels one feature pixel covers along a side, ascending; an encoder with
            dilation repeats its output stride (2, 4, 8, 16, 16).
        mean, std: what the weights were trained with, for images in 0 to 1, one value a channel.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one (N, channels[i], H / strides[i], W / strides[i]) for each i; sizes round up or down."""

    def feature_at(self, stride: int) -> int:
        """Return the index of the deepest feature of this stride.

        Raises:
            ValueError: if there is none.
        """
        indices = [index for index, found in enumerate(self.strides) if found == stride]
        if not indices:
            raise ValueError(f"{type(self).__name__} has no feature of stride {stride} (it has {self.strides})")
        return indices[-1]
