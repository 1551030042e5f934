"""Parameter groups: a learning rate of the encoder's own, no weight decay on norms and biases."""

from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, *, lr: float | None, encoder_lr_factor: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Return groups for a torch optimizer; every trainable parameter is in exactly one.

    Args:
        model: the network; its encoder is `model.encoder`.
        lr: the optimizer's learning rate, None for its default.
        encoder_lr_factor: the encoder's is this times `lr`.
        decay_norm_and_bias: weight decay for one-dimensional parameters too.

    Raises:
        ValueError: if a factor is wanted and there is no encoder or no learning rate.
    """
    if encoder_lr_factor != 1 and not hasattr(model, "encoder"):
        raise ValueError(f"encoder_lr_factor: {type(model).__name__} has no attribute `encoder`; give 1.0")
    if encoder_lr_factor != 1 and lr is None:
        raise ValueError("encoder_lr_factor: set optimizer.lr too; the factor is relative to it")
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    of_encoder = {id(p) for p in model.encoder.parameters()} if encoder_lr_factor != 1 else set()  # type: ignore[union-attr]
    for parameter in model.parameters():
        if parameter.requires_grad:
            encoder = id(parameter) in of_encoder
            decay = decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((encoder, decay), []).append(parameter)
    result = []
    for (encoder, decay), parameters in groups.items():
        group: dict[str, Any] = {"params": parameters}
        if encoder:
            assert lr is not None
            group["lr"] = lr * encoder_lr_factor
        if not decay:
            group["weight_decay"] = 0.0
        result.append(group)
    return result
