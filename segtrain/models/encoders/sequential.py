"""Encoders on torchvision's networks whose layers run one after the other: where each stride ends, and dilation."""

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segtrain.models.encoders.dilation import OUTPUT_STRIDES, check_output_stride, dilate, dilations
from segtrain.models.encoders.encoder import Encoder, check_drop_path, probe
from segtrain.models.encoders.pretrained import adapt_input, build_torchvision, load_file, statistics
from segtrain.models.weights import is_file_name

PROBE = 64  # pixels; any multiple of the coarsest stride


class SequentialEncoder(Encoder):
    """The last feature of every stride, under torchvision's names, so that its files load as they are.

    Args:
        name: one of `names`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, a .pth, .safetensors or .ckpt file, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation where the network can.

    Raises:
        ValueError: for a name, weights or an output stride that the network does not have.
    """

    names: ClassVar[tuple[str, ...]]
    output_strides: ClassVar[tuple[int, ...]] = OUTPUT_STRIDES
    first_keeps: ClassVar[bool] = False  # the first block of a dilated stage keeps the dilation before it
    channel_dim: ClassVar[int] = 1  # of what the layers return
    new: ClassVar[tuple[str, ...]] = ()  # beginnings of names that torchvision's files do not have

    def __init__(self, name: str, *, in_channels: int = 3, weights: str | None = None, output_stride: int = 32) -> None:
        super().__init__()
        if name not in self.names:
            raise ValueError(f"name: {type(self).__name__} has no {name!r} (accepts: {', '.join(self.names)})")
        try:
            check_output_stride(output_stride, self.output_strides)
        except ValueError as error:
            raise ValueError(f"{error} for {name}") from error
        network = build_torchvision(name, weights=weights)
        from_file = weights is not None and is_file_name(weights)
        adapt_input(network, in_channels, pretrained=weights is not None)
        self.mean, self.std = statistics(weights, in_channels)
        self.adopt(network)
        self._find_features(in_channels)
        self._dilate(output_stride)
        if from_file:
            assert weights is not None
            load_file(self, weights, in_channels=in_channels, new=self.new)

    def adopt(self, network: Any) -> None:
        """Take the parts of torchvision's network that are needed, under its names."""
        self.features = network.features

    def layers(self) -> list[nn.Module]:
        """Return the modules that run one after the other."""
        return list(self.features)

    def _find_features(self, in_channels: int) -> None:
        """Set the taps, the index of the last layer of every stride, with their strides and channels."""
        shapes = probe(self.layers(), in_channels, PROBE)
        strides = [PROBE // shape[-2] for shape in shapes]
        last = {stride: index for index, stride in enumerate(strides)}
        self.taps = tuple(last.values())
        self.strides = tuple(last)
        self.channels = tuple(shapes[tap][self.channel_dim] for tap in self.taps)

    def _dilate(self, output_stride: int) -> None:
        for stride, stage, (first, rest) in zip(
            self.strides[-2:], self.stages()[-2:], self._dilations(output_stride), strict=True
        ):
            if stride > output_stride:
                dilate(self, stage, first=first, rest=rest)
        self.strides = tuple(min(stride, output_stride) for stride in self.strides)

    def _dilations(self, output_stride: int) -> list[tuple[int, int]]:
        at16, at32 = dilations(output_stride)
        return [(1, at16), (at16, at32)] if self.first_keeps else [(at16, at16), (at32, at32)]

    def stages(self) -> list[list[nn.Module]]:
        layers, starts = self.layers(), (0, *(tap + 1 for tap in self.taps[:-1]))
        return [layers[start : tap + 1] for start, tap in zip(starts, self.taps, strict=True)]

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for index, layer in enumerate(self.layers()):
            image = layer(image)
            if index in self.taps:
                features.append(image)
        return features


class StochasticDepthEncoder(SequentialEncoder):
    """A sequential encoder with stochastic depth (Huang et al., 2016, arXiv:1603.09382).

    Args:
        name: one of `names`.
        in_channels: channels of the image; pretrained first layers are adapted.
        weights: a torchvision weight name, a .pth, .safetensors or .ckpt file, or None for random weights.
        output_stride: 32, or 16 or 8 with dilation where the network can.
        drop_path: probability to leave out the last block in training (less for those before it); None for the
            network's own.

    Raises:
        ValueError: for a name, weights or an output stride that the network does not have.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        weights: str | None = None,
        output_stride: int = 32,
        drop_path: float | None = None,
    ) -> None:
        check_drop_path(drop_path)
        super().__init__(name, in_channels=in_channels, weights=weights, output_stride=output_stride)
        if drop_path is not None:
            blocks = [module for module in self.modules() if isinstance(module, StochasticDepth)]
            for number, block in enumerate(blocks):
                block.p = drop_path * number / (len(blocks) - 1)


class PatchEncoder(StochasticDepthEncoder):
    """An encoder that begins with 4x4 patches: strides 4 to 32, each feature with a layer norm of its own.

    The norms are those of the authors' segmentation networks (Liu et al., 2021 and 2022); they are not pretrained.
    """

    new = ("norms.",)

    def _find_features(self, in_channels: int) -> None:
        super()._find_features(in_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for channels in self.channels)

    def use_features(self, indices: Iterable[int]) -> None:
        used = {index % len(self.channels) for index in indices}
        for index in range(len(self.norms)):
            if index not in used:
                self.norms[index] = nn.Identity()
