"""The contract between an encoder and the decoders that use it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module, ABC):
    """A network that turns an image into features at several strides, finest first.

    Most have strides 2, 4, 8, 16, 32. Those that begin with patches (Swin, ConvNeXt) start at 4: a decoder that wants
    full resolution doubles without a skip there. VGG can start at 1.

    Attributes:
        channels: channels of each feature.
        strides: how many input pixels one feature pixel covers along a side, ascending; an encoder with
            dilation repeats its output stride (2, 4, 8, 16, 16).
        beyond: beginnings of the names that a classification network has for layers after the encoder's.
        mean, std: what the weights were trained with, for images in 0 to 1, one value a channel.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    beyond: tuple[str, ...] = ()
    frozen: int = 0

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one (N, channels[i], H / strides[i], W / strides[i]) for each i; sizes round up or down."""

    def stages(self) -> list[list[nn.Module]]:
        """Return the modules that make each feature from the one before it; here all of them as one stage."""
        return [list(self.children())]

    def translate(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a classification network's file under this encoder's names."""
        return weights

    def feature_at(self, stride: int) -> int:
        """Return the index of the deepest feature of this stride.

        Raises:
            ValueError: if there is none.
        """
        indices = [index for index, found in enumerate(self.strides) if found == stride]
        if not indices:
            raise ValueError(
                f"encoder: the model needs a feature of stride {stride}, and {type(self).__name__} has strides "
                f"{self.strides}; choose another encoder or output_stride"
            )
        return indices[-1]

    def use_features(self, indices: Iterable[int]) -> None:
        """Learn which features the decoder reads: parameters that make the others alone are left out.

        Data-parallel training stops at parameters that never get a gradient. Most encoders have none such.
        """

    def freeze(self, count: int) -> None:
        """Stop training the first `count` stages, and those alone; their batch norms keep their statistics.

        The norms that Swin and ConvNeXt have at their features are new and stay trainable.

        Raises:
            ValueError: if the encoder has fewer stages.
        """
        if not 0 <= count <= len(self.stages()):
            raise ValueError(f"{count} is not in 0 to {len(self.stages())}, the stages of {type(self).__name__}")
        self.frozen = count
        for number, stage in enumerate(self.stages()):
            for module in stage:
                module.requires_grad_(number >= count)
        self.train(self.training)

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the frozen stages."""
        return [p for stage in self.stages()[: self.frozen] for module in stage for p in module.parameters()]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            for stage in self.stages()[: self.frozen]:
                for module in stage:
                    module.eval()
        return self


def check_encoder_stride(encoder: Encoder, output_stride: int) -> None:
    """Raise ValueError if the encoder's output stride is another."""
    if encoder.strides[-1] != output_stride:
        smaller = encoder.strides[-1] < output_stride  # such as that of a vision transformer, which has one
        raise ValueError(
            f"output_stride: {output_stride} is wanted and the encoder has {encoder.strides[-1]}; "
            f"give the encoder output_stride {output_stride}{', or choose one that has it' if smaller else ''}"
        )


def check_drop_path(drop_path: float | None) -> None:
    """Raise ValueError for a probability with which no block could be left out, or none kept."""
    if drop_path is not None and not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: {drop_path} is not in 0 to below 1 (null: the network's own)")


def stage_names(encoder: Encoder) -> dict[str, int]:
    """Return {name: channels} of an encoder's features: stage1 is the finest."""
    return {f"stage{number}": channels for number, channels in enumerate(encoder.channels, start=1)}


def named_stages(features: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return {name: feature}, under the names of `stage_names`."""
    return {f"stage{number}": feature for number, feature in enumerate(features, start=1)}


def probe(layers: list[nn.Module], in_channels: int, size: int) -> list[tuple[int, ...]]:
    """Return the shape of one image of size x size after each layer; nothing is computed."""
    shapes = []
    x = torch.zeros(1, in_channels, size, size, device="meta")
    with torch.no_grad():
        for layer in layers:
            training = layer.training
            state = {name: tensor.to("meta") for name, tensor in layer.state_dict().items()}
            layer.eval()
            x = functional_call(layer, state, (x,))
            layer.train(training)
            shapes.append(tuple(x.shape))
    return shapes
