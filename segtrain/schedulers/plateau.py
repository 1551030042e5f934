"""A learning rate that falls when the score no longer gets better."""

from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class PlateauLR(ReduceLROnPlateau):
    """Multiply the learning rates by `factor` after `patience` validations without a better `checkpoint.monitor`.

    `segtrain.callbacks.plateau.StepPlateau` steps it. There is no warm-up: a validation comes too late for one.

    Args:
        optimizer: whose groups' learning rates it multiplies.
        monitor_mode: "max" or "min", whichever is better.
        factor: in (0, 1).
        patience: validations without a better score that it waits.
        threshold: how much better, as a share of the best (`threshold_mode` "rel") or as a difference ("abs").
        threshold_mode: see `threshold`.
        cooldown: validations after a fall that count for nothing.
        min_lr: no learning rate falls below.
        interval: "epoch" alone; a score changes at a validation, not in an iteration.

    Raises:
        ValueError: for a factor outside (0, 1), and for an interval of steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        monitor_mode: Literal["min", "max"],
        factor: float = 0.1,
        patience: int = 5,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        interval: str = "epoch",
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"factor: {factor} is not in (0, 1)")
        if patience < 0:
            raise ValueError(f"patience: {patience} validations; give 0 or more")
        if interval != "epoch":
            raise ValueError(
                f"interval: {interval!r}, but a plateau is one of a score, which changes at a validation and not in an "
                "iteration; give epoch, or choose another scheduler"
            )
        super().__init__(
            optimizer,
            mode=monitor_mode,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=threshold_mode,
            cooldown=cooldown,
            min_lr=min_lr,
        )
