"""Does every schedule follow its formula at every step, from warm-up to the end?"""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinySamples, tiny_module, trainer, training_loader
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, PolynomialLR, ReduceLROnPlateau
from torch.optim.lr_scheduler import MultiStepLR as TorchMultiStepLR
from torch.optim.lr_scheduler import OneCycleLR as TorchOneCycleLR

from segtrain.errors import UserError
from segtrain.optimizers import Muon
from segtrain.schedulers import (
    WSDLR,
    ConstantLR,
    CosineLR,
    MultiStepLR,
    OneCycleLR,
    PlateauLR,
    PolyLR,
    schedule_length,
)

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


PER_ITERATION: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "poly": lambda o: PolyLR(o, total_steps=10, warmup_fraction=0.2),
    "cosine": lambda o: CosineLR(o, total_steps=10, warmup_steps=3),
    "constant": lambda o: ConstantLR(o, total_steps=10, warmup_steps=6),
    "onecycle": lambda o: OneCycleLR(o, total_steps=10, warmup_fraction=0.3),
    "wsd": lambda o: WSDLR(o, total_steps=10, decay_fraction=0.4, warmup_fraction=0.2),
    "multistep": lambda o: MultiStepLR(o, total_steps=10, milestones=[0.3, 0.6]),
}
every_schedule = pytest.mark.parametrize("make", PER_ITERATION.values(), ids=PER_ITERATION)


@every_schedule
def test_every_group_keeps_its_share_of_the_learning_rate(make: Callable[[Optimizer], LRScheduler]) -> None:
    sgd = optimizer(PEAK, PEAK / 10)
    scheduler = make(sgd)
    for _ in range(10):
        assert sgd.param_groups[1]["lr"] == pytest.approx(sgd.param_groups[0]["lr"] / 10)
        sgd.step()
        scheduler.step()


@every_schedule
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_schedule_goes_on_from_its_plain_state_to_the_bit(
    make: Callable[[Optimizer], LRScheduler], stop: int
) -> None:
    whole, part = optimizer(PEAK, PEAK / 10), optimizer(PEAK, PEAK / 10)
    straight, first = make(whole), make(part)
    for step in range(10):
        if step == stop:
            states = copy.deepcopy([part.state_dict(), first.state_dict()])
            json.dumps(states[1])  # plain values alone
            part = optimizer(PEAK, PEAK / 10)
            first = make(part)
            part.load_state_dict(states[0])
            first.load_state_dict(states[1])
        for own, schedule in ((whole, straight), (part, first)):
            own.step()
            schedule.step()
        for ours, theirs in zip(part.param_groups, whole.param_groups, strict=True):
            assert {key: ours[key] for key in ("lr", "momentum")} == {key: theirs[key] for key in ("lr", "momentum")}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("make_optimizer", [SGD, AdamW])
def test_one_cycle_is_torchs_with_its_momentum(make_optimizer: Any, share: float) -> None:
    """Torch's ends at the last step of a run, ours (as every schedule) after it: torch's of one step more is ours."""
    ours, theirs = (make_optimizer([nn.Parameter(torch.zeros(1))], lr=PEAK) for _ in range(2))
    warmup = int(40 * share)
    own = OneCycleLR(ours, total_steps=40, warmup_fraction=share, initial_factor=0.04, final_factor=4e-6)
    torchs = TorchOneCycleLR(theirs, max_lr=PEAK, total_steps=41, pct_start=(warmup + 1) / 41)
    for _ in range(40):
        for key in ("lr", "momentum", "betas"):
            assert ours.param_groups[0].get(key) == pytest.approx(theirs.param_groups[0].get(key)), key
        for each, schedule in ((ours, own), (theirs, torchs)):
            each.step()
            schedule.step()
    assert ours.param_groups[0]["lr"] == pytest.approx(PEAK * 4e-6)


def test_one_cycle_moves_both_momenta_of_muon_and_none_if_it_shall_not() -> None:
    moved, still = (Muon([nn.Parameter(torch.zeros(1))], momentum=0.5, betas=(0.6, 0.7)) for _ in range(2))
    OneCycleLR(moved, total_steps=10, warmup_fraction=0.3)
    assert moved.param_groups[0]["momentum"] == 0.95
    assert moved.param_groups[0]["betas"] == (0.95, 0.7)
    OneCycleLR(still, total_steps=10, cycle_momentum=False)
    assert still.param_groups[0]["momentum"] == 0.5
    assert still.param_groups[0]["betas"] == (0.6, 0.7)


def test_one_cycle_of_an_optimizer_without_momentum_is_refused() -> None:
    adagrad = Adagrad([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=r"^cycle_momentum: Adagrad has neither momentum nor betas; give false"):
        OneCycleLR(adagrad, total_steps=10)
    OneCycleLR(adagrad, total_steps=10, cycle_momentum=False)


def test_multistep_is_torchs_at_the_shares_of_the_run() -> None:
    ours = learning_rates(lambda o: MultiStepLR(o, total_steps=30, milestones=[0.5, 0.7, 0.9], gamma=0.3), 30)
    assert ours == pytest.approx(learning_rates(lambda o: TorchMultiStepLR(o, [15, 21, 27], gamma=0.3), 30))


@pytest.mark.parametrize("total", [7, 10, 97])
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_milestones_are_shares_of_the_whole_run_whatever_the_warm_up(total: int, warmup: int) -> None:
    def make(o: SGD) -> LRScheduler:
        return MultiStepLR(o, total_steps=total, milestones=[0.6, 0.9], gamma=0.1, warmup_steps=warmup)

    rates = learning_rates(make, total)
    expected = [PEAK * 0.1 ** sum(step >= int(total * share) for share in (0.6, 0.9)) for step in range(total + 1)]
    assert rates[warmup:] == pytest.approx(expected[warmup:])


@pytest.mark.parametrize("final", [0.0, 0.2])
@pytest.mark.parametrize(("decay", "power"), [("linear", 1.0), ("sqrt", 0.5)])
def test_wsd_is_constant_until_the_last_share_of_the_run(decay: Any, power: float, final: float) -> None:
    def make(o: SGD) -> LRScheduler:
        return WSDLR(o, total_steps=20, decay_fraction=0.3, decay=decay, final_factor=final, warmup_steps=4)

    rates = learning_rates(make, 20)
    assert rates[:4] == pytest.approx([PEAK * share for share in (1 / 5, 2 / 5, 3 / 5, 4 / 5)])
    assert rates[4:15] == pytest.approx(11 * [PEAK])
    assert rates[15:] == pytest.approx([PEAK * (1 - (1 - final) * (step / 6) ** power) for step in range(1, 7)])


def test_plateau_is_torchs_and_goes_on_from_its_state() -> None:
    scores = [0.1, 0.3, 0.3, 0.2, 0.3, 0.31, 0.2, 0.2, 0.2, 0.2]
    ours, theirs = optimizer(PEAK, PEAK / 10), optimizer(PEAK, PEAK / 10)
    plateau = PlateauLR(ours, monitor_mode="max", factor=0.5, patience=1)
    torchs = ReduceLROnPlateau(theirs, mode="max", factor=0.5, patience=1)
    for step, score in enumerate(scores):
        if step == 3:
            states = copy.deepcopy([ours.state_dict(), plateau.state_dict()])
            json.dumps(states[1])
            ours = optimizer(PEAK, PEAK / 10)
            plateau = PlateauLR(ours, monitor_mode="max", factor=0.5, patience=1)
            ours.load_state_dict(states[0])
            plateau.load_state_dict(states[1])
        plateau.step(torch.tensor(score))
        torchs.step(score)
        assert [g["lr"] for g in ours.param_groups] == [g["lr"] for g in theirs.param_groups]
    assert ours.param_groups[0]["lr"] == PEAK / 8


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda o: PlateauLR(o, monitor_mode="max", interval="step"),
            r"^interval: 'step', but a plateau is one of a score",
        ),
        (lambda o: PlateauLR(o, monitor_mode="max", factor=1.0), r"^factor: 1\.0 is not in \(0, 1\)"),
        (lambda o: PlateauLR(o, monitor_mode="max", patience=-1), r"^patience: -1 validations"),
        (
            lambda o: MultiStepLR(o, total_steps=9, milestones=[0.9, 0.6]),
            r"^milestones: \[0\.9, 0\.6\] are not ascending",
        ),
        (
            lambda o: MultiStepLR(o, total_steps=9, milestones=[60, 90]),
            r"^milestones: \[60, 90\] are not ascending shares",
        ),
        (lambda o: WSDLR(o, total_steps=9, decay_fraction=0.0), r"^decay_fraction: 0\.0 is not above 0 to 1"),
        (
            lambda o: WSDLR(o, total_steps=9, decay_fraction=0.8, warmup_fraction=0.5),
            r"^decay_fraction: 0\.8 is 7 steps, and 4",
        ),
        (lambda o: WSDLR(o, total_steps=9, decay="cosine"), r"^decay: 'cosine' is not linear or sqrt"),
        (lambda o: OneCycleLR(o, total_steps=9, base_momentum=0.96), r"^base_momentum: 0\.96 to max_momentum 0\.95"),
        (lambda o: PolyLR(o, total_steps=9, warmup_steps=9), r"^warmup_steps: 9 is not in 0 to 8: the run has 9 steps"),
        (lambda o: PolyLR(o, total_steps=9, warmup_steps=-1), r"^warmup_steps: -1 is not in 0 to 8"),
        (
            lambda o: PolyLR(o, total_steps=9, warmup_steps=2, warmup_fraction=0.1),
            r"^warmup_steps: 2, and warmup_fraction",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(make: Callable[[SGD], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(optimizer())


@pytest.mark.parametrize("name", PER_ITERATION)
def test_a_warm_up_of_a_number_of_steps_is_that_of_the_share(name: str) -> None:
    makers = {
        "poly": PolyLR,
        "cosine": CosineLR,
        "constant": ConstantLR,
        "onecycle": OneCycleLR,
        "wsd": WSDLR,
        "multistep": MultiStepLR,
    }
    make: Any = makers[name]
    steps = learning_rates(lambda o: make(o, total_steps=20, warmup_steps=5, warmup_fraction=0.0), 20)
    assert steps == learning_rates(lambda o: make(o, total_steps=20, warmup_fraction=0.25), 20)
    assert max(steps[:5]) < max(steps) == pytest.approx(PEAK)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
        {"max_epochs": 3, "accumulate_grad_batches": 3},
        {"max_epochs": 2, "accumulate_grad_batches": 6},
        {"max_steps": 7},
        {"max_steps": 7, "max_epochs": 1},
        {"max_steps": -1, "max_epochs": 2, "val_check_interval": 0.5},
        {"max_steps": 4, "max_epochs": 9, "accumulate_grad_batches": 2},
        {"max_epochs": 2, "limit_train_batches": 3},
        {"max_epochs": 2, "limit_train_batches": 0.7, "accumulate_grad_batches": 2},
        {"max_epochs": 2, "limit_train_batches": 1.0},
        {"max_epochs": 2, "limit_train_batches": 99},
        {"max_epochs": 3, "overfit_batches": 2},
        {"max_epochs": 3, "overfit_batches": 0.5, "accumulate_grad_batches": 3},
        {"max_epochs": 3, "overfit_batches": 0.0, "limit_train_batches": 2},
        {"max_epochs": 3, "overfit_batches": 2, "limit_train_batches": 4},
    ],
    ids=str,
)
def test_the_length_is_the_steps_that_a_trainer_takes(settings: dict[str, Any], tmp_path: Path) -> None:
    samples = TinySamples(13)  # 6 batches of 2 and one that is dropped
    length = schedule_length(settings, 6)
    module = tiny_module(scheduler=lambda optimizer: PolyLR(optimizer, total_steps=length))
    lightning = trainer(tmp_path, limit_val_batches=0, **settings)
    lightning.fit(module, training_loader(samples))
    assert lightning.global_step == length
    assert lightning.lr_scheduler_configs[0].scheduler.last_epoch == length
    assert lightning.optimizers[0].param_groups[0]["lr"] == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"limit_train_batches": 3}, r"limit_train_batches: 3 ends inside an optimizer step"),
        ({"limit_train_batches": 0.9}, r"limit_train_batches: 0\.9 ends inside"),
        ({"overfit_batches": 1}, r"overfit_batches: 1 ends inside .* makes of 2 batches; give a multiple of 2"),
        ({"val_check_interval": 0.5}, r"val_check_interval: 0\.5 ends inside"),
        ({"val_check_interval": 7, "check_val_every_n_epoch": None}, r"val_check_interval: 7 ends inside"),
        ({"val_check_interval": "00:00:10:00"}, r"val_check_interval: 00:00:10:00 ends inside"),
    ],
)
def test_an_epoch_or_validation_that_ends_inside_a_step_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.{sentence}"):
        schedule_length({"max_epochs": 1, "accumulate_grad_batches": 2, **settings}, 6)
    assert schedule_length({"max_epochs": 1, **settings}, 6) >= 1


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"^trainer\.max_epochs: missing; .*the schedule needs an end"):
        schedule_length({"max_epochs": -1}, 7)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 3])
def test_a_warm_up_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"warmup_fraction: {fraction} is not in \[0, 1\)"):
        ConstantLR(optimizer(), total_steps=10, warmup_fraction=fraction)
