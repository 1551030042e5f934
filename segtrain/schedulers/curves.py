"""Learning-rate schedules stepped per iteration, each with a linear warm-up."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_length(*, total_steps: int, warmup_steps: int | None, warmup_fraction: float | None) -> int:
    """Return how many of a run's steps warm up, given as a number or as a share.

    Raises:
        ValueError: if both are given, or one is outside its range.
    """
    if warmup_steps is None:
        share = warmup_fraction or 0.0
        if not 0 <= share < 1:
            raise ValueError(f"warmup_fraction: {share} is not in [0, 1)")
        return int(total_steps * share)
    if warmup_fraction:
        raise ValueError(
            f"warmup_steps: {warmup_steps}, and warmup_fraction is {warmup_fraction}: both say how long the warm-up "
            "is; give warmup_fraction=0 with it"
        )
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps: {warmup_steps} is not in 0 to {total_steps - 1}: the run has {total_steps} steps"
        )
    return warmup_steps


def linear_rise(step: int, warmup: int) -> float:
    """Return the factor of a step of the warm-up: equal steps, the first and the peak among them."""
    return (step + 1) / (warmup + 1)


class WarmupLR(LambdaLR):
    """A factor of each group's learning rate that rises over the warm-up, then follows a curve over the rest.

    Args:
        optimizer: whose groups' learning rates are the peak.
        curve: maps the share of the steps after warm-up that is done, in [0, 1], to a factor.
        total_steps: optimizer steps of the whole run.
        warmup_steps: how many of them warm up, or
        warmup_fraction: which share of them.
        rise: maps the step and the length of the warm-up to a factor.

    Raises:
        ValueError: if both say how long the warm-up is, or it would be longer than the run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        curve: Callable[[float], float],
        *,
        total_steps: int,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
        rise: Callable[[int, int], float] = linear_rise,
    ) -> None:
        warmup = warmup_length(total_steps=total_steps, warmup_steps=warmup_steps, warmup_fraction=warmup_fraction)

        def factor(step: int) -> float:
            if step < warmup:
                return rise(step, warmup)
            done = (step - warmup) / max(1, total_steps - warmup)
            return curve(min(1.0, done))

        super().__init__(optimizer, factor)


class PolyLR(WarmupLR):
    """(1 - done) ** power (Liu et al., 2015, arXiv:1506.04579; Chen et al., 2017).

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        power: 0.9 in the papers.
        warmup_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        power: float = 0.9,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            lambda done: (1 - done) ** power,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
        )


class CosineLR(WarmupLR):
    """Half a cosine from 1 to `final_factor` (Loshchilov and Hutter, 2017, arXiv:1608.03983).

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        final_factor: where it ends.
        warmup_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        final_factor: float = 0.0,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            lambda done: final_factor + (1 - final_factor) * (1 + math.cos(math.pi * done)) / 2,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
        )


class ConstantLR(WarmupLR):
    """1 after the warm-up.

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        warmup_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            lambda done: 1.0,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
        )


class MultiStepLR(WarmupLR):
    """A fixed factor at each of a few points of the run (He et al., 2016, arXiv:1512.03385).

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        milestones: shares of the whole run, ascending, in (0, 1).
        gamma: the learning rate is multiplied by this at each.
        warmup_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.

    Raises:
        ValueError: as `WarmupLR`, and for milestones that are not ascending shares.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        milestones: Sequence[float] = (0.6, 0.9),
        gamma: float = 0.1,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        if list(milestones) != sorted(set(milestones)) or not all(0 < share < 1 for share in milestones):
            raise ValueError(f"milestones: {list(milestones)} are not ascending shares of the run, such as [0.6, 0.9]")
        warmup = warmup_length(total_steps=total_steps, warmup_steps=warmup_steps, warmup_fraction=warmup_fraction)
        # the same division as in WarmupLR, so a step that a milestone falls on is at it and not beside it
        reached = [(int(total_steps * share) - warmup) / max(1, total_steps - warmup) for share in milestones]
        super().__init__(
            optimizer,
            lambda done: gamma ** sum(done >= point for point in reached),
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
        )


class WSDLR(WarmupLR):
    """Warm-up, stable, decay (Hu et al., 2024, arXiv:2404.06395): 1 until the last share of the run.

    Args:
        optimizer: see `WarmupLR`.
        total_steps: see `WarmupLR`.
        decay_fraction: the share of the whole run, at its end, over which the learning rate falls.
        decay: how: "linear", or "sqrt" for 1 - sqrt(done) (Hagele et al., 2024, arXiv:2405.18392, who found it better).
        final_factor: where it ends.
        warmup_steps: see `WarmupLR`.
        warmup_fraction: see `WarmupLR`.

    Raises:
        ValueError: as `WarmupLR`, and if warm-up and decay are longer than the run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        decay_fraction: float = 0.2,
        decay: Literal["linear", "sqrt"] = "sqrt",
        final_factor: float = 0.0,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        if not 0 < decay_fraction <= 1:
            raise ValueError(f"decay_fraction: {decay_fraction} is not above 0 to 1")
        if decay not in ("linear", "sqrt"):
            raise ValueError(f"decay: {decay!r} is not linear or sqrt")
        warmup = warmup_length(total_steps=total_steps, warmup_steps=warmup_steps, warmup_fraction=warmup_fraction)
        falling = max(1, int(total_steps * decay_fraction))
        if warmup + falling > total_steps:
            raise ValueError(
                f"decay_fraction: {decay_fraction} is {falling} steps, and {warmup} of the run's {total_steps} warm "
                "up; make one of them shorter"
            )
        start = (total_steps - falling - warmup) / max(1, total_steps - warmup)
        power = 1.0 if decay == "linear" else 0.5

        def curve(done: float) -> float:
            if done <= start:
                return 1.0
            return 1 - (1 - final_factor) * ((done - start) / (1 - start)) ** power

        super().__init__(
            optimizer,
            curve,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
        )
