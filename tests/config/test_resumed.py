"""Is a resume that would not go on with the same run refused, and one that changes what may change not?"""

import copy
from typing import Any

import pytest
from conftest import Compose

from segtrain.config.check import plain_config
from segtrain.config.resumed import resume_problems

RUN = "outputs/runs/a"


def problems(compose: Compose, *overrides: str, inside: bool = False, of: tuple[str, ...] = ()) -> list[str]:
    then = plain_config(compose("model=unet", "model/encoder=resnet18", *of))
    now = plain_config(compose("model=unet", "model/encoder=resnet18", *of, *overrides))
    return resume_problems(now, then, inside_an_epoch=inside, run=RUN)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model/encoder=resnet34", "model.encoder.name"),
        ("model.encoder.name=resnet50", "model.encoder.name"),
        ("dataset.num_classes=7", "dataset.num_classes"),
        ("dataset.class_names=[a,b]", "dataset.class_names"),
        ("dataset.fraction=0.5", "dataset.fraction"),
        ("norm=group", "norm"),
        ("ema=false", "ema"),
        ("swa=true", "swa"),
        ("unfreeze_epoch=3", "unfreeze_epoch"),
        ("optimizer.lr=1", "optimizer.lr"),
        ("optimizer=sgd", "optimizer._target_"),
        ("scheduler=cosine", "scheduler._target_"),
        ("param_groups.encoder_lr_factor=0.1", "param_groups.encoder_lr_factor"),
    ],
)
def test_another_model_data_set_or_optimizer_is_refused(override: str, key: str, compose_config: Compose) -> None:
    sentences = problems(compose_config, override)
    (sentence,) = [sentence for sentence in sentences if sentence.startswith(f"{key}: ")]
    assert "init_from=outputs/runs/a/checkpoints/last.ckpt" in sentence


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=100",
        "trainer=cpu",
        "dataset.crop_size=64",
        "loader.num_workers=0",
        "checkpoint.keep=5",
        "loss=dice",
        "name=other",
        "logger=none",
        "compile=true",
        "seed=3",
        "loader.batch_size=2",
    ],
)
def test_what_a_run_may_change_between_its_epochs_is_not_refused(override: str, compose_config: Compose) -> None:
    assert problems(compose_config, override) == []


@pytest.mark.parametrize("override", ["seed=3", "loader.batch_size=2", "sampling=balanced", "progressive=[1]"])
def test_what_decides_the_order_of_images_is_refused_inside_an_epoch(override: str, compose_config: Compose) -> None:
    key = override.split("=")[0]
    assert problems(compose_config, override) == []
    sentences = problems(compose_config, override, inside=True)
    assert sentences
    assert all(sentence.startswith(key) and "inside an epoch" in sentence for sentence in sentences)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("of", "override", "key"),
    [
        ("scheduler=plateau", "scheduler.patience=9", "scheduler.patience"),
        ("scheduler=plateau", "scheduler.factor=0.5", "scheduler.factor"),
        ("scheduler=plateau", "checkpoint.monitor=val/loss", "checkpoint.monitor"),
        ("scheduler=plateau", "checkpoint.mode=min", "checkpoint.mode"),
        ("param_groups.lr_scaling=linear", "loader.batch_size=2", "loader.batch_size"),
    ],
)
def test_what_the_restored_state_brings_is_refused(
    of: str, override: str, key: str, inside: bool, compose_config: Compose
) -> None:
    (sentence,) = problems(compose_config, override, of=(of,), inside=inside)
    assert sentence.startswith(f"{key}: ")
    assert "init_from=outputs/runs/a/checkpoints/last.ckpt" in sentence


@pytest.mark.parametrize("override", ["scheduler.warmup_fraction=0.2", "checkpoint.monitor=val/loss"])
def test_a_schedule_without_a_score_may_change_them(override: str, compose_config: Compose) -> None:
    assert problems(compose_config, override, of=("scheduler=cosine",)) == []


def test_the_number_of_epochs_is_refused_inside_one_where_it_says_the_size_of_crops(compose_config: Compose) -> None:
    grows = ("progressive=[0.5,1]",)
    (sentence,) = problems(compose_config, "trainer.max_epochs=100", of=grows, inside=True)
    assert sentence.startswith("trainer.max_epochs: 100, ")
    assert "inside an epoch" in sentence
    assert problems(compose_config, "trainer.max_epochs=100", of=grows) == []
    assert problems(compose_config, "trainer.max_epochs=100", inside=True) == []


def test_a_setting_that_is_left_out_is_one_that_changed(compose_config: Compose) -> None:
    then: dict[str, Any] = plain_config(compose_config())
    now = copy.deepcopy(then)
    del now["optimizer"]["weight_decay"]
    (sentence,) = resume_problems(now, then, inside_an_epoch=False, run=RUN)
    assert sentence.startswith("optimizer.weight_decay: None, and the run that is resumed has ")


def test_a_setting_that_is_newer_than_the_checkpoint_is_no_change(compose_config: Compose) -> None:
    now: dict[str, Any] = plain_config(compose_config())
    then = copy.deepcopy(now)
    del then["swa"]
    assert resume_problems(now, then, inside_an_epoch=True, run=RUN) == []
