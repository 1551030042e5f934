"""Lion (Chen et al., 2023, arXiv:2302.06675): steps of one size, in the direction of a momentum's sign."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from segtrain.optimizers.arguments import check_at_least_zero, check_below_one


class Lion(Optimizer):
    """Evolved sign momentum, algorithm 2 of the paper.

    A step moves every weight by `lr`, so the paper takes a 3 to 10 times smaller `lr` and a 3 to 10 times larger
    `weight_decay` than for AdamW. Half of AdamW's state: one momentum.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: share of the momentum in the step's direction, and in the next momentum.
        weight_decay: decoupled, times `lr`.

    Raises:
        ValueError: for values outside their ranges.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        check_below_one(betas=betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; return what `closure`, called with gradients on, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, **{key: group[key] for key in ("lr", "betas", "weight_decay")})
        return loss

    def _update(self, parameters: list[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        gradients: list[Any] = [p.grad for p in parameters]
        momenta = [self.state[p]["momentum"] for p in parameters]
        direction = torch._foreach_lerp(momenta, gradients, 1 - betas[0])
        torch._foreach_sign_(direction)
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, direction, alpha=-lr)
        torch._foreach_lerp_(momenta, gradients, 1 - betas[1])
