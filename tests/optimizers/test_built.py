"""Is the optimizer that a config asks for the one that is built: fused, scaled, in groups?"""

from collections.abc import Callable
from typing import Any

import pytest
from torch.optim import Optimizer

from segtrain import build
from segtrain.errors import UserError

TrainOverrides = Callable[..., dict[str, Any]]
SMALL = ("model.encoder.base_channels=4", "model.encoder.depth=3")


def built(train_config: TrainOverrides, *overrides: str) -> Optimizer:
    cfg = train_config(*SMALL, *overrides)
    module = build.build_module(cfg, plain=cfg, total_steps=10)
    return module.configure_optimizers()["optimizer"]


@pytest.mark.parametrize(
    ("overrides", "fused"),
    [
        ([], True),
        (["optimizer=sgd"], True),
        (["optimizer.fused=false"], False),
        (["+optimizer.foreach=true"], None),
        (["trainer.gradient_clip_val=1", "trainer.precision=32-true"], True),
        # Lightning clips no gradients of a fused optimizer under mixed precision
        (["trainer.gradient_clip_val=1", "trainer.precision=bf16-mixed"], None),
        (["trainer.gradient_clip_val=1", "trainer.precision=16"], None),
    ],
)
def test_the_step_is_fused_where_nothing_speaks_against_it(
    overrides: list[str], fused: bool | None, train_config: TrainOverrides
) -> None:
    assert built(train_config, *overrides).defaults["fused"] is fused


@pytest.mark.parametrize(
    ("overrides", "lr"),
    [
        (["param_groups.lr_scaling=none"], 0.01),
        (["param_groups.lr_scaling=linear"], 0.04),
        (["param_groups.lr_scaling=linear", "param_groups.lr_scaling_base=32"], 0.02),
        (["param_groups.lr_scaling=sqrt", "param_groups.lr_scaling_base=4"], 0.04),
    ],
)
def test_the_learning_rate_is_scaled_by_the_images_of_an_optimizer_step(
    overrides: list[str], lr: float, train_config: TrainOverrides
) -> None:
    batch = ("loader.batch_size=64", "trainer.accumulate_grad_batches=4", "optimizer.lr=0.01")
    slow = ("scheduler=constant", "scheduler.warmup_fraction=0", "param_groups.encoder_lr_factor=0.5")
    optimizer = built(train_config, *batch, *slow, *overrides)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["head"] == rates["head_no_decay"] == pytest.approx(lr)
    assert rates["encoder"] == rates["encoder_no_decay"] == pytest.approx(lr / 2)


def test_muon_gets_the_hidden_weights_and_the_classifier_is_adamws(train_config: TrainOverrides) -> None:
    optimizer = built(train_config, "optimizer=muon")
    shapes = {group["name"]: [tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups}
    assert set(shapes) == {"model_hidden", "model_other", "model_other_no_decay"}
    assert sorted(shapes["model_other"]) == [(2, 4, 1, 1), (4, 3, 3, 3)]  # classifier and first convolution


def test_layer_decay_for_another_librarys_encoder_is_a_sentence_with_the_key(train_config: TrainOverrides) -> None:
    cfg = train_config("model=smp", "param_groups.layer_decay=0.8")
    module = build.build_module(cfg, plain=cfg, total_steps=10)
    with pytest.raises(UserError, match=r"^param_groups\.layer_decay: 0\.8 .*does not say which modules make them"):
        module.configure_optimizers()
