"""Are combinations of optimizer, schedule and learning rates that cannot work refused before training?"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from segtrain.config.problems import find_problems

TrainOverrides = Callable[..., dict[str, Any]]

ADAGRAD = ["optimizer._target_=torch.optim.Adagrad", "~optimizer.betas", "~optimizer.fused"]
TORCHS_PLATEAU = [
    "scheduler=plateau",
    "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
    "~scheduler.interval",
]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["param_groups.encoder_lr_factor=-1"], r"^param_groups\.encoder_lr_factor: -1\.0 is negative"),
        (["param_groups.layer_decay=0"], r"^param_groups\.layer_decay: 0\.0 is not above 0 to 1"),
        (["param_groups.layer_decay=1.5"], r"^param_groups\.layer_decay: 1\.5 is not above 0 to 1"),
        (["param_groups.lr_scaling_base=0"], r"^param_groups\.lr_scaling_base: 0 is not a positive number"),
        (
            ["param_groups.lr_scaling=linear", "~optimizer.lr"],
            r"^param_groups\.lr_scaling: linear .*optimizer\.lr",
        ),
        (["scheduler.warmup_steps=9"], r"^scheduler\.warmup_steps: 9, and .*0\.05.*give scheduler\.warmup_fraction=0"),
        (["optimizer.fused=true", "+optimizer.foreach=true"], r"^optimizer\.fused: true, and optimizer\.foreach too"),
        (
            ["optimizer.fused=true", "trainer.gradient_clip_val=1", "trainer.precision=bf16-mixed"],
            r"^optimizer\.fused: true, and trainer\.gradient_clip_val is 1: .*precision=bf16-mixed.*fused=false",
        ),
        (
            ["scheduler=onecycle", *ADAGRAD],
            r"^scheduler\.cycle_momentum: true, and Adagrad has neither momentum nor betas",
        ),
        (
            ["scheduler=plateau", "scheduler.interval=step"],
            r"^scheduler\.interval: 'step', but a plateau is one of val/miou, which changes at a validation.*epoch",
        ),
        (
            ["scheduler=plateau", "+scheduler.warmup_fraction=0.1"],
            r"^scheduler\.warmup_fraction: PlateauLR takes no",
        ),
        (
            ["scheduler=plateau", "+scheduler.monitor_mode=min"],
            r"^scheduler\.monitor_mode: segtrain gives PlateauLR",
        ),
        (["scheduler=plateau", "dataset.splits=[train]"], r"^scheduler: a plateau of val/miou needs the split val"),
        (["scheduler=plateau", "+trainer.limit_val_batches=0"], r"^scheduler: .*trainer\.limit_val_batches is 0"),
        (
            TORCHS_PLATEAU,
            r"^scheduler\.mode: min, and checkpoint\.mode is max; give the same",
        ),
        (["scheduler=plateau", "checkpoint.monitor=val/iou"], r"^checkpoint\.monitor: no run logs 'val/iou'"),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_the_reason(
    overrides: list[str], sentence: str, train_config: TrainOverrides
) -> None:
    cfg = train_config(*overrides)
    problems = find_problems(cfg, plain=cfg)
    assert len(problems) == 1, problems
    assert re.search(sentence, problems[0]), problems


@pytest.mark.parametrize(
    "overrides",
    [
        ["scheduler.warmup_steps=9", "scheduler.warmup_fraction=0"],
        ["scheduler.warmup_steps=9", "scheduler.warmup_fraction=null"],
        ["scheduler=onecycle", *ADAGRAD, "scheduler.cycle_momentum=false"],
        ["scheduler=onecycle", "optimizer=muon"],
        ["scheduler=plateau", "checkpoint.monitor=val/loss", "checkpoint.mode=min"],
        [*TORCHS_PLATEAU, "+scheduler.mode=max"],
        ["param_groups.layer_decay=0.8", "param_groups.lr_scaling=sqrt"],
        ["optimizer.fused=true", "trainer.gradient_clip_val=1", "trainer.precision=32-true"],
        ["optimizer.fused=false", "trainer.gradient_clip_val=1"],
    ],
)
def test_what_works_is_not_refused(overrides: list[str], train_config: TrainOverrides) -> None:
    cfg = train_config(*overrides)
    assert find_problems(cfg, plain=cfg) == []
