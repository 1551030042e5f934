"""Are the losses made of operations with deterministic kernels, which never read values back, and repeat to the bit?"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from determinism import Refused, assert_repeats, exact, needs_gpu
from every_loss import LOSSES, VOID, WEIGHTS, batch
from torch import Tensor

from segtrain.losses.cross_entropy import cross_entropy
from segtrain.models import UNet
from segtrain.models.encoders import UNetEncoder


def net() -> UNet:
    return UNet(4, encoder=UNetEncoder(base_channels=4, depth=3))


@pytest.mark.parametrize(
    "use",
    [
        lambda x, mask: F.cross_entropy(x, mask),
        lambda x, mask: F.cross_entropy(x, mask, reduction="sum"),
        lambda x, _: F.adaptive_avg_pool2d(x, 3).sum(),
        lambda x, _: F.interpolate(x, size=9, mode="bicubic", antialias=True).sum(),
        lambda x, _: F.pad(x, (1, 1, 1, 1), mode="reflect").sum(),
        lambda x, mask: torch.bincount(mask.flatten(), x.detach()[:, 0].flatten(), minlength=4).sum() + x.sum(),
    ],
)
def test_what_has_no_deterministic_kernel_is_noticed(use: Callable[[Tensor, Tensor], Tensor]) -> None:
    device = "cpu" if "bincount" in use.__code__.co_names else "meta"  # how long its result is depends on values
    mask = torch.zeros(2, 8, 8, dtype=torch.long, device=device)
    with exact(), Refused() as refused:
        use(torch.zeros(2, 4, 8, 8, device=device, requires_grad=True), mask).backward()
    assert refused.names


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_needs_no_operation_without_a_deterministic_kernel_and_reads_nothing(name: str) -> None:
    loss = LOSSES[name](WEIGHTS).to("meta")
    logits = torch.empty(2, 4, 8, 8, device="meta", requires_grad=True)
    mask = torch.empty(2, 8, 8, dtype=torch.uint8, device="meta")
    if name == "boundary":  # which says so: its distances are computed on the CPU
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            loss(logits, mask)
        return
    with exact(), Refused() as refused:
        loss(logits, mask).backward()
    assert not refused.names


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_a_pixel_is_torchs_sum_in_value_and_gradient(
    weights: list[float] | None, smoothing: float
) -> None:
    logits, mask = batch(size=16)
    logits.requires_grad_()
    weight = None if weights is None else torch.tensor(weights)
    with exact():
        ours = cross_entropy(logits, mask, ignore_index=VOID, class_weights=weight, label_smoothing=smoothing)
    theirs = F.cross_entropy(logits, mask, weight, ignore_index=VOID, label_smoothing=smoothing, reduction="sum")
    valid = mask[mask != VOID]
    theirs = theirs / (len(valid) if weight is None else weight[valid].sum())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    slopes = [torch.autograd.grad(value, logits)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_trains_to_equal_bits_on_a_cpu(name: str) -> None:
    assert_repeats(net, LOSSES[name](WEIGHTS), device="cpu", steps=2)


@needs_gpu
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_trains_to_equal_bits_on_a_gpu(name: str) -> None:
    assert_repeats(net, LOSSES[name](WEIGHTS), device="cuda")
