"""Encoders of the timm library: anything that its `features_only` serves (https://huggingface.co/docs/timm)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from segtrain.errors import first_line, requirement
from segtrain.models.encoders.dilation import check_output_stride
from segtrain.models.encoders.encoder import Encoder, check_drop_path
from segtrain.models.encoders.pretrained import load_file, spread, statistics
from segtrain.models.weights import Weights, is_file_name

TIMM = "timm>=1.0.15,<2"


class TimmEncoder(Encoder):
    """The features of a timm network, at the strides that it has.

    Args:
        name: a timm model name, such as convnext_tiny, with or without a tag of its weights.
        in_channels: channels of the image; timm adapts pretrained first layers.
        weights: true for timm's default weights, a tag such as in12k_ft_in1k, a .pth, .safetensors or .ckpt file, or
            None for random weights.
        output_stride: 32, or 16 or 8 where the network can.
        drop_path: probability to leave out the last block in training; None for timm's default.

    Raises:
        ValueError: if timm is missing or has no such network, weights or output stride, or they cannot be downloaded.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        weights: str | bool | None = None,
        output_stride: int = 32,
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        check_output_stride(output_stride)
        check_drop_path(drop_path)
        with requirement("timm", TIMM):
            import timm
        plain = name.split(".")[0]
        if not timm.is_model(plain):
            near = timm.list_models(f"*{plain.split('_')[0]}*")[:8]
            raise ValueError(
                f"name: timm has no {name!r} (near it: {', '.join(near) or 'none'}; see timm.list_models())"
            )
        from_file = isinstance(weights, str) and is_file_name(weights)
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
        if isinstance(weights, str) and not from_file and weights not in tags:
            raise ValueError(
                f"weights: timm's {plain} has no {weights!r} (accepts: {', '.join([*tags, 'true', 'a file'])}, or null)"
            )
        if weights is True and not tags:
            raise ValueError(f"weights: timm has none for {plain}; give null or a file")
        pretrained = bool(weights) and not from_file
        full = f"{plain}.{weights}" if isinstance(weights, str) and not from_file else name
        arguments = {"in_chans": in_channels, **_for_any_size(timm, plain)}
        if _native_stride(timm, plain, arguments) > output_stride:
            arguments["output_stride"] = output_stride
        if drop_path is not None:
            arguments["drop_path_rate"] = drop_path
        self.net = _create(timm, full, pretrained=pretrained, arguments=arguments)
        self.channels_at_end = getattr(self.net, "output_fmt", None) == "NHWC"  # such as Swin's
        self.strides = tuple(self.net.feature_info.reduction())
        self.channels = tuple(self.net.feature_info.channels())
        if self.strides[-1] > output_stride:
            raise ValueError(f"output_stride: timm's {plain} has {self.strides[-1]} and cannot do {output_stride}")
        self.mean, self.std = statistics(None, in_channels)
        if weights:
            published = timm.models.get_pretrained_cfg(full) or timm.models.get_pretrained_cfg(plain)
            assert published is not None
            self.mean, self.std = spread(published.mean, in_channels), spread(published.std, in_channels)
        if from_file:
            assert isinstance(weights, str)
            load_file(self, weights, in_channels=in_channels)

    def translate(self, weights: Weights) -> Weights:
        """Return the tensors of timm's own file; its features have stages_0 where the network has stages.0."""
        flat = {_flat(name): name for name in self.state_dict()}
        firsts = tuple({f"{_inner(name).split('.')[0]}_" for name in self.state_dict()})

        def own(name: str) -> str:
            inside = _flat(name).startswith(firsts)  # a layer that this network could have
            return flat.get(_flat(name), f"net.{name}" if inside else name)

        return {own(name): tensor for name, tensor in weights.items()}

    def stages(self) -> list[list[nn.Module]]:
        """Return timm's modules up to each feature; one stage where timm does not say which module makes it."""
        ends = [info["module"].replace(".", "_") for info in self.net.feature_info.get_dicts()]
        units = [*_units(self.net, ends)]
        names = [name for name, _ in units]
        if any(end not in names for end in ends):
            return [[self.net]]
        indices = [names.index(end) for end in ends]
        starts = [0, *(index + 1 for index in indices[:-1])]
        modules = [module for _, module in units]
        return [modules[start : index + 1] for start, index in zip(starts, indices, strict=True)]

    def forward(self, image: Tensor) -> list[Tensor]:
        features = list(self.net(image))
        return [feature.permute(0, 3, 1, 2) for feature in features] if self.channels_at_end else features


def _units(net: nn.Module, ends: list[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of the parts that run one after the other, in as large pieces as the ends allow."""
    for name, child in net.named_children():
        if name not in ends and any(end.startswith(f"{name}_") for end in ends):
            yield from ((f"{name}_{inner}", module) for inner, module in child.named_children())
        else:
            yield name, child


def _inner(name: str) -> str:
    """Return a tensor's name without outer prefixes."""
    for prefix in ("module.", "encoder.", "net.", "model."):
        name = name.removeprefix(prefix)
    return name


def _flat(name: str) -> str:
    """Return a tensor's name as timm's features have it, without dots: stages.0 is stages_0 there."""
    return _inner(name).replace(".", "_")


# what networks that are built for one image size take to accept all
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"strict_img_size": False})


def _for_any_size(timm: Any, name: str) -> dict[str, Any]:
    """Return the arguments with which a network takes images of any size.

    Raises:
        ValueError: if it cannot.
    """
    published = timm.models.get_pretrained_cfg(name)
    for flags in ({}, *ANY_SIZE) if published is not None and published.fixed_input_size else ({},):
        try:
            with torch.device("meta"), torch.no_grad():
                net = timm.create_model(name, features_only=True, **flags).eval()
                if published is not None and published.fixed_input_size:
                    net(torch.zeros(1, 3, 64, 96))
        except (TypeError, AssertionError, RuntimeError, NotImplementedError, AttributeError):
            continue
        return flags
    raise ValueError(f"name: timm's {name} has no features for images of any size; choose another network")


def _native_stride(timm: Any, name: str, arguments: dict[str, Any]) -> int:
    with torch.device("meta"):
        return timm.create_model(name, features_only=True, **arguments).feature_info.reduction()[-1]


def _create(timm: Any, name: str, *, pretrained: bool, arguments: dict[str, Any]) -> Any:
    try:
        net = timm.create_model(name, features_only=True, pretrained=False, **arguments)
    except (TypeError, AssertionError, RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
        if "output_stride" in arguments:
            raise ValueError(
                f"output_stride: timm's {name} cannot do {arguments['output_stride']}; choose another"
            ) from error
        raise ValueError(f"name: timm cannot build {name} as an encoder ({first_line(error)})") from error
    if not pretrained:
        return net
    try:
        return timm.create_model(name, features_only=True, pretrained=True, **arguments)
    except Exception as error:  # the same arguments have just worked: what fails is the download, in many ways
        raise ValueError(
            f"weights: those of timm's {name} are not on this machine and cannot be downloaded "
            f"({type(error).__name__}: {first_line(error)}); give weights null or a file "
            "(HF_HUB_OFFLINE=1 looks in the cache alone, without the wait)"
        ) from error
