"""Does every YAML compose, pass the check, and build where its device exists?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose, write_split

from segtrain import build
from segtrain.config.check import check_keys, plain_config
from segtrain.config.help import command_help, first_comment
from segtrain.config.locate import config_dir
from segtrain.config.problems import find_problems
from segtrain.config.schema import TrainConfig
from segtrain.models.encoders import pretrained
from segtrain.schedulers import schedule_length

CONFIGS = Path(config_dir())
ROOTS = {"train", "eval", "predict", "resume", "show", "check", "sweep"}
# options that are not alternatives of the train command, and why
OTHER = {
    "hydra": "chosen by each root",
    "hydra/launcher": "who runs the jobs of -m",
    "hydra/sweeper": "what the jobs of -m are",
    "paths": "one option",
    "sweep": "of the sweep command",
}


def options() -> list[tuple[str, str]]:
    """Return (group, option) of every YAML below the roots."""
    found = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    return [(path.parent.as_posix(), path.stem) for path in found if path.parent != Path()]


CHOICES = [(group, option) for group, option in options() if group not in OTHER]


def test_the_tree_has_the_files_that_these_tests_go_through() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == ROOTS
    assert len(options()) == len({*options()}) == 120
    groups = {group for group, _ in options()}
    assert groups == {
        *("augmentation", "augmentation/mix", "callbacks", "dataset", "debug", "experiment", "hydra", "logger"),
        *("hydra/launcher", "hydra/sweeper"),
        *("loss", "model", "model/encoder", "optimizer", "paths", "sampling", "scheduler", "sweep", "trainer"),
    }


def test_there_is_nothing_but_yaml_in_the_config_folder() -> None:
    assert {path.suffix for path in CONFIGS.rglob("*") if path.is_file()} == {".yaml"}


def overrides_for(group: str, option: str, root: Path) -> list[str]:
    """Return the overrides that choose an option, and a data root."""
    chosen = [f"{group}={option}"]
    if option == "resnet50_multigrid":
        chosen.append("model=deeplabv3")  # U-Net takes no dilated encoder
    if (group == "dataset" and option not in ("nuclei", "csv")) or group == "experiment":
        chosen.append(f"dataset.root='{root}'")
    if option == "csv":
        chosen.append(f"dataset.file='{root}/train.csv'")
    if option == "by_weight":
        chosen.append(f"sampling.weights={[1] * 80}")  # nuclei have none
    if option in ("folder", "csv", "coco_json"):  # their classes are found in the files
        chosen += ["dataset.num_classes=2", "dataset.class_names=[a,b]"]
    return chosen


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_every_option_composes_and_has_no_problems(
    group: str, option: str, compose_config: Compose, tmp_path: Path
) -> None:
    composed = compose_config(*overrides_for(group, option, tmp_path))
    problems = find_problems(check_keys(composed, TrainConfig), plain=plain_config(composed))
    needs_gpu = (group, option) in {("trainer", "gpu"), ("trainer", "ddp"), ("trainer", "fsdp"), ("trainer", "mps")}
    if option == "slurm":
        assert [problem.partition("(")[2].partition(")")[0] for problem in problems] == [
            "it runs outside of any SLURM job"
        ]
    elif needs_gpu and not torch.cuda.is_available():
        assert len(problems) == 1, problems
        assert problems[0].startswith("trainer.accelerator: ")
    else:
        assert problems == []


@pytest.mark.parametrize(("group", "option"), [c for c in CHOICES if c[0] in ("model/encoder", "model", "experiment")])
def test_every_model_builds_and_predicts(
    group: str, option: str, compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretrained.get_model
    monkeypatch.setattr(pretrained, "get_model", lambda name, weights: real(name, weights=None))
    write_split(tmp_path, "train", 8, classes=11)
    composed = compose_config(*overrides_for(group, option, tmp_path))
    cfg = check_keys(composed, TrainConfig)
    data = build.build_data(cfg)
    cfg = build.weigh_classes(composed, cfg, data, TrainConfig)
    steps = schedule_length(cfg["trainer"], data.batches_per_epoch(1))
    module = build.build_module(cfg, plain=plain_config(composed), total_steps=steps)
    optimizer = module.configure_optimizers()["optimizer"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.model.parameters()))
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        logits = module.eval().predict_logits(image)
    assert logits.shape == (1, cfg["dataset"]["num_classes"], 64, 64)


@pytest.mark.parametrize(
    ("group", "option"),
    # data sets in their own layouts are built in tests/data/test_public_datasets.py and beside it
    [c for c in CHOICES if c[0] not in ("model/encoder", "model", "experiment", "dataset")]
    + [("dataset", "camvid"), ("dataset", "nuclei")],
)
def test_every_other_option_builds(group: str, option: str, compose_config: Compose, tmp_path: Path) -> None:
    write_split(tmp_path, "train", 8, classes=11)
    composed = compose_config(*overrides_for(group, option, tmp_path))
    cfg = check_keys(composed, TrainConfig)
    if find_problems(cfg):
        pytest.skip(f"{group}={option}: its device is not on this machine")
    data = build.build_data(cfg)
    assert data.batches_per_epoch(1) >= 1
    module = build.build_module(cfg, plain=plain_config(composed), total_steps=10)
    callbacks = build.build_callbacks(cfg, tmp_path, total_steps=10)
    logger = build.build_logger(cfg, tmp_path)
    trainer = build.build_trainer(cfg, tmp_path, callbacks=callbacks, logger=logger)
    configured = module.configure_optimizers()
    configured["optimizer"].step()
    module.lr_scheduler_step(configured["lr_scheduler"]["scheduler"], None)
    assert trainer.default_root_dir == str(tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_yaml_begins_with_the_line_that_help_prints(path: Path) -> None:
    line = first_comment(path)
    assert 10 < len(line) < 140, line


def test_help_lists_every_option_of_every_group_with_its_line() -> None:
    text = command_help("train", "Train.", [])
    for group, option in CHOICES:
        line = first_comment(CONFIGS / group / f"{option}.yaml")
        assert f"{group}=" in text
        assert any(option in words and words.endswith(line) for words in text.splitlines()), (group, option)


def test_help_of_train_tells_of_grids_and_who_runs_them() -> None:
    text = command_help("train", "Train.", [])
    assert "segtrain train -m " in text
    assert "   * local " in text
    assert "     slurm " in text
    for key in ("partition=null", "time=1440", "gpus_per_node=null", "setup=[]"):
        assert any(f"  hydra.launcher.{key} " in line and len(line.split()) > 2 for line in text.splitlines()), key
    assert "hydra.launcher" not in command_help("check", "", [])


def keys_and_groups(text: str) -> set[str]:
    """Return the lines of the train command's help that are about one training."""
    return set(text.partition("segtrain train -m ")[0].splitlines()[4:])


def test_help_of_check_has_the_keys_and_groups_of_training_and_its_own() -> None:
    train, check = command_help("train", "", []), command_help("check", "", [])
    assert "  output=" in check
    assert "  workers=null " in check
    assert keys_and_groups(train) <= set(check.splitlines())


def test_help_of_a_command_on_a_checkpoint_offers_no_groups() -> None:
    assert "groups" not in command_help("eval", "Score.", [])


def test_help_marks_the_defaults_that_compose(compose_config: Compose) -> None:
    text = command_help("train", "Train.", [])
    starred = {line.split()[1] for line in keys_and_groups(text) if line.strip().startswith("*")}
    assert {
        "nuclei",
        "unet",
        "standard",
        "ce_dice",
        "adamw",
        "poly",
        "auto",
        "tensorboard",
        "default",
        "shuffle",
    } == starred
    assert compose_config()["dataset"]["name"] == "nuclei"


def test_help_names_every_key_of_the_root(compose_config: Compose) -> None:
    text = command_help("train", "Train.", [])
    for key in ("seed=", "loader.batch_size=", "param_groups.encoder_lr_factor=", "inference.tile=", "resume="):
        assert f"  {key}" in text


def test_help_of_show_has_the_keys_and_groups_of_training_and_its_own() -> None:
    train, show = command_help("train", "", []), command_help("show", "", [])
    assert "  num_samples=16" in show
    assert keys_and_groups(train) <= set(show.splitlines())


def test_the_encoder_is_chosen_inside_the_model(train_config: Callable[..., dict[str, Any]]) -> None:
    cfg = train_config("model=deeplabv3plus", "model/encoder=resnet18", "model.output_stride=8")
    assert cfg["model"]["encoder"]["name"] == "resnet18"
    assert cfg["model"]["encoder"]["output_stride"] == 8


def test_facts_of_the_data_set_are_owned_by_it(train_config: Callable[..., dict[str, Any]]) -> None:
    cfg = train_config("dataset.num_classes=5", "dataset.ignore_index=7", "dataset.in_channels=4")
    assert cfg["model"]["num_classes"] == 5
    assert cfg["model"]["encoder"]["in_channels"] == 4
    assert {loss["ignore_index"] for loss in cfg["loss"]["losses"]} == {7}
