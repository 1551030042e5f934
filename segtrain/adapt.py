"""Settings that hold for any network: norms, frozen stages, the crop that it needs, the normalisation of its input."""

from typing import Any

from torch import nn

from segtrain.config.facts import crop_size
from segtrain.data.progressive import side_at
from segtrain.errors import UserError
from segtrain.models.encoders.encoder import Encoder
from segtrain.models.normalize import Normalize
from segtrain.models.norms import change_norms

Config = dict[str, Any]


def normalize_for(model: nn.Module, dataset: Config) -> Normalize:
    """Return the input's normalisation: the data set's own where it says one, else that of the model's weights."""
    channels = dataset["in_channels"]
    encoder = getattr(model, "encoder", model)
    values = []
    for name in ("mean", "std"):
        own = dataset.get(name)
        if own is not None and len(own) != channels:
            raise UserError(f"dataset.{name}: {len(own)} values for dataset.in_channels={channels}; give one a channel")
        values.append(own or getattr(model, name, getattr(encoder, name, (0.5,) * channels)))
    return Normalize(*values)


def adapt(model: nn.Module, cfg: Config) -> None:
    """Apply the settings that hold for any network: its norms, frozen stages, and the crop that it needs."""
    key, crop = crop_size(cfg)
    needed = getattr(model, "min_size", 0)
    if crop is not None and crop < needed:
        raise UserError(
            f"{key}: {crop} pixels are fewer than the {needed} that {type(model).__name__} needs for its "
            f"pyramid; give {needed} or more, or a smaller model.output_stride"
        )
    share = min(cfg.get("progressive") or [1.0])
    if crop is not None and (smallest := side_at(share, crop)) < needed:
        raise UserError(
            f"progressive: {share:g} of {key}={crop} is {smallest} pixels, fewer than the {needed} that "
            f"{type(model).__name__} needs for its pyramid; give a larger share"
        )
    try:
        change_norms(model, cfg["norm"])
    except ValueError as error:
        raise UserError(str(error)) from error
    if cfg["frozen_stages"]:
        encoder = getattr(model, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise UserError(
                f"frozen_stages: {type(model).__name__} has no encoder of segtrain's, whose stages are known; give 0"
            )
        try:
            encoder.freeze(cfg["frozen_stages"])
        except ValueError as error:
            raise UserError(f"frozen_stages: {error}") from error
