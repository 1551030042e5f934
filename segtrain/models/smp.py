"""The networks of segmentation_models_pytorch (https://github.com/qubvel-org/segmentation_models.pytorch)."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from segtrain.errors import first_line, requirement
from segtrain.models.encoders.pretrained import spread, statistics
from segtrain.models.weights import WeightFile

SMP = "segmentation-models-pytorch>=0.5,<0.7"
ARCHITECTURES = (
    *("DPT", "DeepLabV3", "DeepLabV3Plus", "FPN", "Linknet", "MAnet", "PAN", "PSPNet", "Segformer", "UPerNet"),
    *("Unet", "UnetPlusPlus"),
)
STRIDE = 32  # sides are padded to a multiple of it
STRIDES = {"PAN": 128}  # pools its features of stride 16 three times
DEFAULTS = {"DPT": {"dynamic_img_size": True}}  # arguments without which the image must be 224 pixels large


class SMPModel(nn.Module):
    """One of the library's architectures on one of its encoders, for images of any size.

    Those that pool the whole image (DeepLabV3, DeepLabV3Plus, PAN, PSPNet) need a batch of two or more in training.

    Args:
        num_classes: channels of the logits.
        arch: one of `ARCHITECTURES`.
        encoder_name: an encoder of the library, such as mit_b0, or timm's with `tu-` before its name.
        weights: of the encoder: a name such as imagenet, or None for random weights.
        in_channels: channels of the image; the library adapts a pretrained first layer.
        arguments: further arguments of the architecture, such as {"decoder_channels": [128, 64, 32, 16, 8]}; DPT, which
            takes vision transformers alone (tu-vit_tiny_patch16_224), has dynamic_img_size unless told otherwise.

    Raises:
        ValueError: if the library is missing, refuses an argument, or the weights cannot be downloaded.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        arch: str = "Unet",
        encoder_name: str = "resnet34",
        weights: str | None = None,
        in_channels: int = 3,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        with requirement("segmentation_models_pytorch", SMP):
            import segmentation_models_pytorch as smp
        if arch not in ARCHITECTURES:
            raise ValueError(f"arch: the library has no {arch!r} (accepts: {', '.join(ARCHITECTURES)})")
        architecture = getattr(smp, arch)
        self.stride = STRIDES.get(arch, STRIDE)
        extra = DEFAULTS.get(arch, {}) | dict(arguments or {})

        def build(encoder_weights: str | None) -> nn.Module:
            return architecture(
                encoder_name=encoder_name,
                encoder_weights=encoder_weights,
                in_channels=in_channels,
                classes=num_classes,
                **extra,
            )

        try:
            self.net = build(None)
        except (KeyError, ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise ValueError(f"arch: {arch} on {encoder_name} cannot be built: {first_line(error)}") from error
        self.mean, self.std = statistics(None, in_channels)
        if weights is not None:
            known = smp.encoders.encoders.get(encoder_name, {}).get("pretrained_settings", {})
            if weights not in known and not encoder_name.startswith("tu-"):  # timm has its own
                raise ValueError(
                    f"weights: {encoder_name} has no {weights!r} (accepts: {', '.join(known) or 'none'}, or null)"
                )
            try:
                published = smp.encoders.get_preprocessing_params(encoder_name, weights)
                self.net = build(weights)
            except Exception as error:  # the same arguments have just worked: what fails is the download
                raise ValueError(
                    f"weights: {weights} of {encoder_name} is not on this machine and cannot be downloaded "
                    f"({type(error).__name__}: {first_line(error)}); give weights null"
                ) from error
            self.mean, self.std = (spread(tuple(published[key]), in_channels) for key in ("mean", "std"))

    @property
    def encoder(self) -> nn.Module:
        """The encoder, which may have a learning rate of its own."""
        return self.net.encoder  # type: ignore[return-value]

    def translate(self, file: WeightFile) -> WeightFile:
        """Return a state dict of the library's own network under this one's names."""
        own = any(name.startswith("net.") for name in file.tensors)
        return file if own else WeightFile({f"net.{k}": v for k, v in file.tensors.items()}, file.statistics)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % self.stride, 0, -height % self.stride))
        return self.net(padded)[..., :height, :width]
