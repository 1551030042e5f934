"""One cycle: up to a high learning rate and down to almost nothing, with the momentum going the other way."""

import math
from typing import Any

from torch.optim import Optimizer

from segtrain.schedulers.curves import WarmupLR, warmup_length


def _wave(start: float, end: float, done: float) -> float:
    """Return the point of half a cosine from start to end at which a share is done."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


class OneCycleLR(WarmupLR):
    """Smith and Topin, 2018, arXiv:1708.07120: half a cosine up to each group's learning rate, half a cosine down.

    The curve is that of `torch.optim.lr_scheduler.OneCycleLR` in two phases. That one keeps the run's length in its
    state, so a run resumed with more epochs would follow the old length; this one takes it from the config.

    Args:
        optimizer: whose groups' learning rates are the peak.
        total_steps: optimizer steps of the whole run.
        initial_factor: where it starts, as a share of the peak.
        final_factor: where it ends.
        cycle_momentum: move the momentum (SGD's `momentum`, the first of Adam's `betas`) down while the learning rate
            rises and up while it falls.
        base_momentum: the momentum at the peak.
        max_momentum: the momentum at start and end.
        warmup_steps: steps that rise, or
        warmup_fraction: the share of them.

    Raises:
        ValueError: as `WarmupLR`, and if the optimizer has no momentum to cycle.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int,
        initial_factor: float = 0.04,
        final_factor: float = 4e-6,
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        warmup_steps: int | None = None,
        warmup_fraction: float | None = None,
    ) -> None:
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(f"cycle_momentum: {type(optimizer).__name__} has neither momentum nor betas; give false")
        if not 0 <= base_momentum <= max_momentum < 1:
            raise ValueError(f"base_momentum: {base_momentum} to max_momentum {max_momentum} is no range within [0, 1)")
        warmup = warmup_length(total_steps=total_steps, warmup_steps=warmup_steps, warmup_fraction=warmup_fraction)

        def momentum(step: int) -> float:
            if step < warmup:
                return _wave(max_momentum, base_momentum, step / warmup)
            return _wave(base_momentum, max_momentum, min(1.0, (step - warmup) / max(1, total_steps - warmup)))

        self.momentum = momentum if cycle_momentum else None
        super().__init__(
            optimizer,
            lambda done: _wave(1.0, final_factor, done),
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            warmup_fraction=warmup_fraction,
            rise=lambda step, warmup: _wave(initial_factor, 1.0, step / warmup),
        )

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next optimizer step, and its momentum."""
        super().step(epoch)
        if self.momentum is None:
            return
        value = self.momentum(self.last_epoch)
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = value
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the curve of the momentum, as `LambdaLR` leaves out that of the learning rate."""
        return {key: value for key, value in super().state_dict().items() if key != "momentum"}
