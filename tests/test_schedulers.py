"""Does every schedule follow its formula at every step, from warm-up to the end?"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, PolynomialLR

from segtrain.schedulers import ConstantLR, CosineLR, PolyLR

PEAK = 0.4


def optimizer(*rates: float) -> SGD:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (PEAK,)]
    return SGD(groups, lr=PEAK)


def learning_rates(make: Callable[[SGD], LRScheduler], steps: int) -> list[float]:
    """Return the learning rate that each optimizer step uses, and the one after the last."""
    sgd = optimizer()
    scheduler = make(sgd)
    rates = []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return [*rates, sgd.param_groups[0]["lr"]]


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_poly_is_one_minus_the_share_done_to_a_power(power: float) -> None:
    rates = learning_rates(lambda o: PolyLR(o, total_steps=10, power=power), 10)
    assert rates == pytest.approx([PEAK * (1 - step / 10) ** power for step in range(11)])


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_half_a_wave_down_to_the_final_factor(final: float) -> None:
    rates = learning_rates(lambda o: CosineLR(o, total_steps=10, final_factor=final), 10)
    wave = [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)]
    assert rates == pytest.approx([PEAK * (final + (1 - final) * value) for value in wave])


def test_poly_without_warm_up_is_torchs_polynomial() -> None:
    ours = learning_rates(lambda o: PolyLR(o, total_steps=20, power=0.9), 20)
    assert ours == pytest.approx(learning_rates(lambda o: PolynomialLR(o, total_iters=20, power=0.9), 20))


def test_cosine_without_warm_up_is_torchs_annealing() -> None:
    ours = learning_rates(lambda o: CosineLR(o, total_steps=20), 20)
    assert ours == pytest.approx(learning_rates(lambda o: CosineAnnealingLR(o, T_max=20), 20), abs=1e-9)


def test_warm_up_rises_linearly_to_the_peak_and_the_curve_takes_the_rest() -> None:
    rates = learning_rates(lambda o: PolyLR(o, total_steps=20, power=1.0, warmup_fraction=0.2), 20)
    assert rates[:4] == pytest.approx([PEAK * share for share in (1 / 5, 2 / 5, 3 / 5, 4 / 5)])
    assert rates[4:] == pytest.approx([PEAK * (1 - step / 16) for step in range(17)])
    assert max(rates) == rates[4] == pytest.approx(PEAK)


def test_constant_is_the_peak_after_the_warm_up() -> None:
    rates = learning_rates(lambda o: ConstantLR(o, total_steps=10, warmup_fraction=0.3), 10)
    assert rates == pytest.approx([PEAK / 4, PEAK / 2, PEAK * 3 / 4] + 8 * [PEAK])


@pytest.mark.parametrize("make", [PolyLR, CosineLR])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_decay_ends_at_zero_and_never_before(make: type[PolyLR] | type[CosineLR], warmup: float, total: int) -> None:
    rates = learning_rates(lambda o: make(o, total_steps=total, warmup_fraction=warmup), total)
    assert all(rate > 0 for rate in rates[:-1])
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_steps_beyond_the_end_stay_at_zero() -> None:
    rates = learning_rates(lambda o: PolyLR(o, total_steps=3), 6)
    assert rates[3:] == [0, 0, 0, 0]


def test_every_group_keeps_its_share_of_the_learning_rate() -> None:
    sgd = optimizer(PEAK, PEAK / 10)
    scheduler = PolyLR(sgd, total_steps=10)
    for _ in range(5):
        sgd.step()
        scheduler.step()
    assert sgd.param_groups[1]["lr"] == pytest.approx(sgd.param_groups[0]["lr"] / 10)


def test_a_schedule_goes_on_from_its_plain_state() -> None:
    straight = learning_rates(lambda o: CosineLR(o, total_steps=10, warmup_fraction=0.2), 10)
    sgd = optimizer()
    first = CosineLR(sgd, total_steps=10, warmup_fraction=0.2)
    for _ in range(4):
        sgd.step()
        first.step()
    other = optimizer()
    second = CosineLR(other, total_steps=10, warmup_fraction=0.2)
    other.load_state_dict(sgd.state_dict())
    second.load_state_dict(first.state_dict())
    other.step()
    second.step()
    assert other.param_groups[0]["lr"] == pytest.approx(straight[5])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 3])
def test_a_warm_up_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"warmup_fraction: {fraction} is not in \[0, 1\)"):
        ConstantLR(optimizer(), total_steps=10, warmup_fraction=fraction)
