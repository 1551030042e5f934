"""Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from segtrain.optimizers.arguments import check_at_least_zero, check_below_one

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the post: singular values end between 0.7 and 1.2


class Muon(Optimizer):
    """Muon for hidden weights, AdamW for all other parameters, with one learning rate.

    A convolution's weight (out, in, k, k) is the matrix out x (in k k). An orthogonal matrix of r x c has a root mean
    square of 1 / sqrt(max(r, c)); it is multiplied by 0.2 sqrt(max(r, c)), which makes Muon's steps as large as AdamW's
    usually are, so `lr` and `weight_decay` mean the same to both (Liu et al., 2025, arXiv:2502.16982, section 2.2).
    `torch.optim.Muon` takes 2-D parameters alone.

    Args:
        params: parameters or groups. A group with `hidden: False` is AdamW's; of the others AdamW has what is
            one-dimensional. `parameter_groups` tells first and last layers from hidden ones.
        lr: learning rate.
        weight_decay: decoupled, times `lr`.
        momentum: share of the old momentum in the new one.
        nesterov: look ahead by one momentum step.
        ns_steps: Newton-Schulz iterations.
        ns_dtype: their type; float32 for CPUs that are slow with bfloat16.
        betas: AdamW's.
        eps: AdamW's.

    Raises:
        ValueError: for values outside their ranges.
    """

    splits_hidden_weights = True  # segtrain.build gives it groups with `hidden`

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_dtype: Literal["bfloat16", "float32"] = "bfloat16",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay, momentum=momentum, eps=eps)
        check_below_one(betas=betas)
        if momentum >= 1:
            raise ValueError(f"momentum: {momentum} is not in [0, 1)")
        if ns_steps < 1:
            raise ValueError(f"ns_steps: {ns_steps} iterations; give 1 or more, such as 5")
        if ns_dtype not in ("bfloat16", "float32"):
            raise ValueError(f"ns_dtype: {ns_dtype!r} is not bfloat16 or float32")
        muon = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "ns_dtype": ns_dtype}
        adamw = {"betas": tuple(betas), "eps": eps}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "hidden": True, **muon, **adamw})

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
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            matrices = [p for p in parameters if group["hidden"] and p.ndim > 1]
            others = [p for p in parameters if not group["hidden"] or p.ndim <= 1]
            if matrices:
                self._muon(matrices, group)
            if others:
                self._adamw(others, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients: list[Any] = [p.grad for p in parameters]
        momenta = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        if group["nesterov"]:
            momenta = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        alike: dict[tuple[int, int], list[int]] = {}  # those of one shape go through the iteration together
        for index, p in enumerate(parameters):
            alike.setdefault((p.shape[0], p[0].numel()), []).append(index)
        dtype = getattr(torch, group["ns_dtype"])
        for (rows, columns), indices in alike.items():
            stacked = torch.stack([momenta[index].reshape(rows, columns) for index in indices])
            updates = orthogonalize(stacked.to(dtype), steps=group["ns_steps"])
            factor = -group["lr"] * 0.2 * math.sqrt(max(rows, columns))
            for index, update in zip(indices, updates, strict=True):
                p = parameters[index]
                p.add_(update.reshape(p.shape), alpha=factor)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Loshchilov and Hutter, 2019, arXiv:1711.05101, algorithm 2; the decay is done."""
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        states = [self.state[p] for p in parameters]
        for state in states:
            state["step"] += 1
        (beta1, beta2), steps = group["betas"], [state["step"] for state in states]
        gradients: list[Any] = [p.grad for p in parameters]
        means, squares = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        deviations = torch._foreach_sqrt(squares)
        torch._foreach_div_(deviations, [math.sqrt(1 - beta2**step) for step in steps])
        torch._foreach_add_(deviations, group["eps"])
        torch._foreach_addcdiv_(parameters, means, deviations, [-group["lr"] / (1 - beta1**step) for step in steps])


def orthogonalize(matrices: Tensor, *, steps: int) -> Tensor:
    """Return matrices of the same singular vectors and singular values near 1, by Newton-Schulz iterations.

    Args:
        matrices: (N, rows, columns), in the type that is computed in.
        steps: iterations; 5 in the post.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the products are of the shorter side
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]  # the largest singular value is at most 1
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x
