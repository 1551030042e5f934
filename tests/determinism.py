"""Which operations have no deterministic kernel on CUDA, and does training twice give equal bits?

Without a GPU the operations are listed on meta tensors, for which torch decomposes as for CUDA; they also have no
values that could be read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from segtrain.deterministic import use_deterministic

# what torch.use_deterministic_algorithms says to refuse on CUDA, by the dispatcher's names
LACKING = {
    *(f"_adaptive_avg_pool{n}d_backward" for n in (2, 3)),
    *("adaptive_max_pool2d_backward", "avg_pool3d_backward"),
    *(f"fractional_max_pool{n}d_backward" for n in (2, 3)),
    *(f"max_unpool{n}d" for n in (2, 3)),
    *("upsample_linear1d_backward", "upsample_trilinear3d_backward"),
    *(f"{kind}_backward" for kind in ("upsample_bilinear2d", "upsample_bicubic2d")),
    *(f"_{kind}_aa_backward" for kind in ("upsample_bilinear2d", "upsample_bicubic2d")),
    *(f"reflection_pad{n}d_backward" for n in (1, 2, 3)),
    *("_ctc_loss_backward", "_embedding_bag_dense_backward", "histc", "median", "put_"),
    *(f"grid_sampler_{n}d_backward" for n in (2, 3)),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")


class Refused(TorchDispatchMode):
    """Note the operations that have no deterministic kernel on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        summed = name == "nll_loss2d_forward" and args[3] != 0  # 0 leaves the pixels apart
        weighted = name == "bincount" and len(args) > 1 and args[1] is not None
        if name in LACKING or summed or weighted:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def exact() -> Iterator[None]:
    """Take deterministic kernels alone."""
    use_deterministic(True)
    try:
        yield
    finally:
        use_deterministic(False)


def parts(output: Any) -> list[Tensor]:
    """Return a network's logits, and the auxiliary ones."""
    return [*output.values()] if isinstance(output, dict) else [output]


def train(make: Callable[[], nn.Module], loss: nn.Module, *, device: str, steps: int, void: int) -> dict[str, Tensor]:
    """Train with Adam on noise of four classes and return the state."""
    torch.manual_seed(0)
    model = make().train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss.to(device)
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        image = torch.randn(2, 3, 64, 64, generator=random).to(device)
        mask = torch.randint(0, 4, (2, 64, 64), generator=random)
        mask[torch.rand(mask.shape, generator=random) < 0.1] = void
        output = parts(model(image.contiguous(memory_format=torch.channels_last)))
        optimizer.zero_grad()
        torch.stack([loss(logits, mask.to(device)) for logits in output]).sum().backward()
        optimizer.step()
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def assert_repeats(
    make: Callable[[], nn.Module], loss: nn.Module, *, device: str, steps: int = 3, void: int = 255
) -> None:
    """Train twice from one seed and compare every bit."""
    with exact():
        one, other = (train(make, loss, device=device, steps=steps, void=void) for _ in range(2))
    assert all(tensor.isfinite().all() for tensor in one.values())
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []
