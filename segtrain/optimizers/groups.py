"""Parameter groups: which parameters get a learning rate of their own, and which no weight decay."""

from collections.abc import Collection
from typing import Any, NamedTuple

from torch import Tensor, nn

# parameters that are no matrices of weights, whatever their shape
UNDECAYED = {
    *("pos_embed", "pos_embedding", "position_embedding", "position_embeddings", "absolute_pos_embed"),
    *("relative_position_bias_table", "rel_pos_h", "rel_pos_w", "logit_scale", "layer_scale"),
    *("cls_token", "class_token", "dist_token", "reg_token", "mask_token"),
}


class Kind(NamedTuple):
    """What parameters of one group have in common; the fields make its name."""

    part: str
    decay: bool
    hidden: bool | None

    @property
    def name(self) -> str:
        hidden = {None: "", True: "_hidden", False: "_other"}[self.hidden]
        return f"{self.part}{hidden}{'' if self.decay else '_no_decay'}"


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | None,
    encoder_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
    decay_norm_and_bias: bool = False,
    hidden: Collection[Tensor] | None = None,
    trained_later: Collection[Tensor] = (),
) -> list[dict[str, Any]]:
    """Return named groups for a torch optimizer; every trainable parameter is in exactly one.

    Without `decay_norm_and_bias` there is no weight decay on norms, biases and other vectors, and none on position
    embeddings, tables of relative positions, class tokens and scales, whatever their shape, as in the code of Swin (Liu
    et al., 2021, arXiv:2103.14030) and BEiT (Bao et al., 2021, arXiv:2106.08254).

    Args:
        model: the network; its encoder is `model.encoder`.
        lr: the optimizer's learning rate, None for its default.
        encoder_lr_factor: the encoder's is this times `lr`.
        layer_decay: the encoder's last stage has this times that, the one before it this squared, and so on; what
            belongs to no stage (norms at the features) has the encoder's. BEiT's layer-wise decay, by stages.
        decay_norm_and_bias: weight decay for all parameters.
        hidden: parameters that the groups tell from others, by the key `hidden`; None for optimizers that do not ask.
        trained_later: parameters that are in a group although they are not trainable yet.

    Raises:
        ValueError: if a factor is wanted and there is no encoder, no learning rate, or no stages.
    """
    factors = _factors(model, lr=lr, encoder_lr_factor=encoder_lr_factor, layer_decay=layer_decay)
    marked = {id(p) for p in hidden} if hidden is not None else None
    later = {id(p) for p in trained_later}
    rest = "model" if not factors else "head"
    groups: dict[Kind, dict[str, Any]] = {}
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad and id(parameter) not in later:
            continue
        part, factor = factors.get(id(parameter), (rest, 1.0))
        decay = decay_norm_and_bias or (parameter.ndim > 1 and path.rpartition(".")[2] not in UNDECAYED)
        kind = Kind(part, decay, None if marked is None else id(parameter) in marked)
        if kind not in groups:
            groups[kind] = {"params": [], "name": kind.name}
            groups[kind] |= {} if part == rest else {"lr": (lr or 0.0) * factor}
            groups[kind] |= {} if decay else {"weight_decay": 0.0}
            groups[kind] |= {} if kind.hidden is None else {"hidden": kind.hidden}
        groups[kind]["params"].append(parameter)
    return list(groups.values())


def _factors(
    model: nn.Module, *, lr: float | None, encoder_lr_factor: float, layer_decay: float
) -> dict[int, tuple[str, float]]:
    """Return (name of the part, factor of the learning rate) by parameter id; nothing where all are alike."""
    wanted = [
        name for name, value in (("encoder_lr_factor", encoder_lr_factor), ("layer_decay", layer_decay)) if value != 1
    ]
    if not wanted:
        return {}
    encoder: Any = getattr(model, "encoder", None)
    if encoder is None:
        raise ValueError(f"{wanted[0]}: {type(model).__name__} has no attribute `encoder`; give 1.0")
    if lr is None:
        raise ValueError(f"{wanted[0]}: set optimizer.lr too; the factor is relative to it")
    factors = {id(p): ("encoder", encoder_lr_factor) for p in encoder.parameters()}
    if layer_decay == 1:
        return factors
    stages = encoder.stages() if hasattr(encoder, "stages") else []
    if len(stages) < 2:
        raise ValueError(
            f"layer_decay: {layer_decay} is for encoders of several stages, and {type(encoder).__name__} does not say "
            "which modules make them; give 1.0"
        )
    for number, stage in enumerate(stages, start=1):
        factor = encoder_lr_factor * layer_decay ** (len(stages) + 1 - number)
        factors |= {id(p): (f"encoder_stage{number}", factor) for module in stage for p in module.parameters()}
    return factors


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def hidden_weights(model: nn.Module, *, num_classes: int) -> list[Tensor]:
    """Return the weights between hidden features, for optimizers that treat these as matrices.

    Those are the weights of linear layers and ungrouped convolutions, without the first layer and those that give one
    channel a class. Grouped and depthwise convolutions are many small matrices, and left out.

    Args:
        model: the network; its first layer is the encoder's, if it has one.
        num_classes: channels of the logits.
    """
    encoder: nn.Module = getattr(model, "encoder", model)
    first = next((m for m in encoder.modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS))), None)
    found = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            outputs = module.out_features
        elif isinstance(module, CONVOLUTIONS) and module.groups == 1:
            outputs = module.out_channels
        else:
            continue
        if module is not first and outputs != num_classes:
            found.append(module.weight)
    return found


def lr_factor(rule: str, *, batch_size: int, base: int) -> float:
    """Return what the learning rate is multiplied by for another batch size than the one that it was chosen at.

    Args:
        rule: "linear" (for SGD; Goyal et al., 2017, arXiv:1706.02677), "sqrt" (for Adam and its like; Malladi et al.,
            2022, arXiv:2205.10287) or "none".
        batch_size: images in one optimizer step.
        base: the batch size that the learning rate is for.
    """
    share = batch_size / base
    return {"none": 1.0, "linear": share, "sqrt": share**0.5}[rule]
