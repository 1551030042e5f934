"""Are settings of averaging, unfreezing, growing crops and early stopping refused that cannot be or do nothing?"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Compose

from segtrain import build
from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import find_problems
from segtrain.config.schema import EvalConfig, TrainConfig
from segtrain.errors import UserError

TrainOverrides = Callable[..., dict[str, Any]]
SWA = ("swa=true", "ema=false")
FROZEN = ("frozen_stages=2", "init_from=some.ckpt")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["swa=true"], r"^swa: true, and ema is too, but one average is scored and saved; give ema=false$"),
        ([*SWA, "swa_start=1"], r"^swa_start: 1\.0 is not in \[0, 1\)"),
        ([*SWA, "swa_start=-0.1"], r"^swa_start: -0\.1 is not in"),
        ([*SWA, "swa_start=nan"], r"^swa_start: nan is not in"),
        ([*SWA, "swa_lr=0"], r"^swa_lr: 0\.0 is not above 0; null is what the schedule says"),
        ([*SWA, "swa_lr=nan"], r"^swa_lr: nan is not above 0"),
        (["swa_lr=0.1"], r"^swa_lr: 0\.1 is without effect, as swa is false; give swa=true"),
        ([*SWA, "swa_lr=0.1", "scheduler=plateau"], r"^swa_lr: 0\.1 is a constant, and a plateau would change it"),
        (["unfreeze_epoch=3"], r"^unfreeze_epoch: 3, but frozen_stages is 0: nothing is frozen; give frozen_stages"),
        ([*FROZEN, "unfreeze_epoch=0"], r"^unfreeze_epoch: 0 is not a number of epochs of 1 or more"),
        ([*FROZEN, "unfreeze_epoch=-1"], r"^unfreeze_epoch: -1 is not a number of epochs"),
        ([*FROZEN, "unfreeze_epoch=60"], r"^unfreeze_epoch: 60, and the run ends after trainer\.max_epochs=60"),
        (
            [*FROZEN, "unfreeze_epoch=3", "optimizer=sgd", "optimizer.fused=true"],
            r"^optimizer\.fused: true, and unfreeze_epoch is 3: torch's fused SGD fails.*give optimizer\.fused=false",
        ),
        (["progressive=[]"], r"^progressive: \[\] are not shares above 0 to 1, such as \[0\.5,0\.75,1\]"),
        (["progressive=[0,1]"], r"^progressive: \[0\.0, 1\.0\] are not shares"),
        (["progressive=[0.5,1.5]"], r"^progressive: \[0\.5, 1\.5\] are not shares"),
        (["progressive=[nan]"], r"^progressive: \[nan\] are not shares"),
        (
            ["progressive=[0.5,0.75,1]", "trainer.max_epochs=2"],
            r"^progressive: 3 sizes for trainer\.max_epochs=2; give fewer, or more epochs",
        ),
        (
            ["progressive=[0.5,1]", "trainer.max_steps=100"],
            r"^progressive: .*which trainer\.max_epochs alone must say; give it, and no trainer\.max_steps",
        ),
        (["progressive=[0.5,1]", "trainer.max_epochs=-1"], r"^progressive: .*trainer\.max_epochs alone must say"),
        (["progressive=[0.5,1]", "debug=overfit"], r"^progressive: trainer\.overfit_batches repeats the crops"),
        (
            ["progressive=[0.1,1]", "dataset.crop_size=256"],
            r"^progressive: 0\.1 of dataset\.crop_size=256 is fewer than 32 pixels.*give a larger share",
        ),
        (["early_stopping=0"], r"^early_stopping: 0 is not a number of validations of 1 or more"),
        (["early_stopping=3", "dataset.splits=[train]"], r"^early_stopping: an end by val/miou needs the split val"),
        (["early_stopping=3", "+trainer.limit_val_batches=0"], r"^early_stopping: .*trainer\.limit_val_batches is 0"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    overrides: list[str], sentence: str, train_config: TrainOverrides
) -> None:
    cfg = train_config(*overrides)
    problems = find_problems(cfg, plain=cfg)
    assert len(problems) == 1, problems
    assert re.search(sentence, problems[0]), problems


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("progressive=0.5", r"^progressive: "),
        ("progressive=[half]", r"^progressive: .*'half'"),
        ("early_stopping=2.5", r"^early_stopping: .*2\.5"),
        ("unfreeze_epoch=soon", r"^unfreeze_epoch: .*'soon'"),
        ("swa_lr=low", r"^swa_lr: .*'low'"),
    ],
)
def test_values_of_another_type_are_refused(override: str, sentence: str, train_config: TrainOverrides) -> None:
    with pytest.raises(UserError, match=sentence):
        train_config(override)


@pytest.mark.parametrize(
    "overrides",
    [
        [*SWA, "swa_start=0", "swa_lr=0.01"],
        [*FROZEN, "unfreeze_epoch=59"],
        [*FROZEN, "unfreeze_epoch=70", "trainer.max_epochs=null", "trainer.max_steps=90"],
        ["progressive=[0.5,0.75,1]", "trainer.max_epochs=3"],
        ["progressive=[0.5,1]", "dataset.crop_size=null", "augmentation.transforms=[]"],
        ["early_stopping=1", "dataset.splits=[train]", "dataset.folds=5"],
        ["early_stopping=3", "checkpoint.monitor=val/loss", "checkpoint.mode=min", "scheduler=plateau"],
    ],
)
def test_what_works_is_not_refused(overrides: list[str], train_config: TrainOverrides) -> None:
    cfg = train_config(*overrides)
    assert find_problems(cfg, plain=cfg) == []


def test_smallest_crops_that_the_network_cannot_take_are_refused(compose_config: Compose) -> None:
    composed = compose_config("model=pspnet", "model/encoder=resnet18", "dataset.crop_size=64", "progressive=[0.5,1]")
    with pytest.raises(UserError, match=r"^progressive: 0\.5 of dataset\.crop_size=64 is 32 pixels, fewer than the 48"):
        build.build_module(check_keys(composed, TrainConfig), plain=plain_config(composed), total_steps=10)


def test_commands_that_do_not_train_know_nothing_of_it() -> None:
    names = {field for field in TrainConfig.__dataclass_fields__ if field not in EvalConfig.__dataclass_fields__}
    assert {"swa", "swa_start", "swa_lr", "unfreeze_epoch", "progressive", "early_stopping"} <= names
