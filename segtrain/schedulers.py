"""Learning-rate schedules stepped per iteration, each with a linear warm-up."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtrain.errors import UserError


class WarmupLR(LambdaLR):
    """A factor of each group's learning rate that rises linearly, then follows a curve over the rest.

    Args:
        optimizer: whose groups' learning rates are the peak.
        curve: maps the share of the steps after warm-up that is done, in [0, 1], to a factor.
        total_steps: optimizer steps of the whole run.
        warmup_fraction: share of them that warms up.

    Raises:
        ValueError: if `warmup_fraction` is outside [0, 1).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        curve: Callable[[float], float],
        *,
        total_steps: int,
        warmup_fraction: float,
    ) -> None:
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction: {warmup_fraction} is not in [0, 1)")
        warmup = int(total_steps * warmup_fraction)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            done = (step - warmup) / max(1, total_steps - warmup)
            return curve(min(1.0, done))

        super().__init__(optimizer, factor)


class PolyLR(WarmupLR):
    """(1 - done) ** power (Liu et al., 2015, arXiv:1506.04579; Chen et al., 2017).

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        power: 0.9 in the papers.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(
        self, optimizer: Optimizer, *, total_steps: int, power: float = 0.9, warmup_fraction: float = 0.0
    ) -> None:
        super().__init__(
            optimizer,
            lambda done: (1 - done) ** power,
            total_steps=total_steps,
            warmup_fraction=warmup_fraction,
        )


class CosineLR(WarmupLR):
    """Half a cosine from 1 to `final_factor` (Loshchilov and Hutter, 2017, arXiv:1608.03983).

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        final_factor: where it ends.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        final_factor: float = 0.0,
        warmup_fraction: float = 0.0,
    ) -> None:
        def curve(done: float) -> float:
            return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * done)) / 2

        super().__init__(optimizer, curve, total_steps=total_steps, warmup_fraction=warmup_fraction)


class ConstantLR(WarmupLR):
    """1 after the warm-up.

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(self, optimizer: Optimizer, *, total_steps: int, warmup_fraction: float = 0.0) -> None:
        super().__init__(optimizer, lambda done: 1.0, total_steps=total_steps, warmup_fraction=warmup_fraction)


def schedule_length(trainer: dict[str, Any], batches_per_epoch: int) -> int:
    """Return the optimizer steps of a run, from the Trainer's arguments alone.

    Raises:
        UserError: if the config sets no end.
    """
    limit = trainer.get("overfit_batches") or trainer.get("limit_train_batches", 1.0)
    batches = (
        min(limit, batches_per_epoch)
        if isinstance(limit, int)
        else int(batches_per_epoch * (1.0 if limit is None else limit))
    )
    per_epoch = math.ceil(batches / (trainer.get("accumulate_grad_batches") or 1))
    ends = []
    if (trainer.get("max_steps") or -1) >= 0:
        ends.append(trainer["max_steps"])
    if (trainer.get("max_epochs") or -1) >= 0:
        ends.append(trainer["max_epochs"] * per_epoch)
    if not ends:
        raise UserError(
            "trainer.max_epochs: missing; give trainer.max_epochs=N or ++trainer.max_steps=N, the schedule needs an end"
        )
    return max(1, min(ends))
