"""Is every mistake in a config found before anything is built, all at once, in a sentence with the remedy?"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from PIL import Image

from segtrain import build
from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import check_objects, dataset_problems, find_problems
from segtrain.config.schema import CheckConfig, TrainConfig
from segtrain.errors import UserError

FOLDER = ("dataset=folder", "dataset.root=/data", "dataset.num_classes=2", "dataset.class_names=[a,b]")
TrainOverrides = Callable[..., dict[str, Any]]

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+typo=1"], r"typo: no such key.*accepts: name, tags"),
        (["+sed=1"], r"sed: no such key\. Did you mean seed\?"),
        (["seed=abc"], r"seed: .*'abc'.*Integer"),
        (["deterministic=maybe"], r"deterministic: .*maybe.*"),
        (["loader.batch_size=big"], r"loader\.batch_size: .*'big'"),
        (["+loader.batchsize=3"], r"loader\.batchsize: no such key\. Did you mean batch_size\?"),
        (["loader=3"], r"loader: 3 is not a group of keys \(has: batch_size"),
        (["dataset=camvid"], r"^dataset\.root: missing; give dataset\.root=\.\.\.$"),
        (["model.num_classes=${nothing.here}"], r"model\.num_classes: .*nothing"),
    ],
)
def test_unknown_missing_and_mistyped_keys_are_found_without_torch(
    overrides: list[str], sentence: str, compose_config: Compose
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_keys(compose_config(*overrides), TrainConfig)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+optimizer.learning_rate=1"], r"optimizer\.learning_rate: AdamW takes no such argument\..*accepts: lr"),
        (["++optimizer.wieght_decay=1"], r"Did you mean optimizer\.weight_decay\?"),
        (["+optimizer.params=[]"], r"optimizer\.params: segtrain gives AdamW this argument itself"),
        (["trainer.max_epochs=abc"], r"trainer\.max_epochs: 'abc' is not "),
        (
            ["++trainer.max_epoch=3"],
            r"trainer\.max_epoch: Trainer takes no such argument\. Did you mean trainer\.max_epochs",
        ),
        (["model._target_=segtrain.models.unet.UNt"], r"model\._target_: .*no 'UNt'.*Did you mean UNet\?"),
        (["model._target_=nowhere.Net"], r"model\._target_: .*no 'nowhere' to import"),
        (["~model.num_classes"], r"model\.num_classes: UNet needs it"),
        (["model.upsampling=3"], r"model\.upsampling: 3 is not str"),
        (
            ["dataset.num_classes=3", "dataset.palette=null"],
            r"dataset\.class_names: 2 names for dataset\.num_classes=3",
        ),
        (["dataset.class_names=[a,a]"], r"dataset\.class_names: .*twice"),
        (["dataset.ignore_index=1"], r"dataset\.ignore_index: 1 is one of the classes 0 to 1"),
        (
            ["dataset.in_channels=4", "augmentation=light"],
            r"dataset\.in_channels: 4, but this data set gives RGB images",
        ),
        (["++augmentation.mixx.p=1"], r"augmentation\.mixx: nothing reads this key\. Did you mean augmentation\.mix\?"),
        (["++augmentation.mix.p=1"], r"augmentation\.mix\._target_: missing; name the class"),
        (
            ["augmentation/mix=cutmix", "+augmentation.mix.alhpa=1"],
            r"augmentation\.mix\.alhpa: CutMix takes no such argument\. Did you mean augmentation\.mix\.alpha\?",
        ),
        (["augmentation/mix=copy_paste", "augmentation.mix.classes=2"], r"augmentation\.mix\.classes: 2 is not "),
        (
            ["augmentation/mix=classmix", "loader.batch_size=7"],
            r"loader\.batch_size: augmentation\.mix pairs the 7 images .*; give a multiple of 2",
        ),
        (
            ["loader.batch_size=6", "trainer.accumulate_grad_batches=4"],
            r"loader\.batch_size: 6 images .* parts of trainer\.accumulate_grad_batches=4; give a multiple of 4",
        ),
        (
            ["trainer=ddp_cpu", "loader.batch_size=6", "trainer.accumulate_grad_batches=2"],
            r"6 images cannot be divided over 2 devices and into the parts of .*_batches=2; give a multiple of 4",
        ),
        (
            ["trainer=ddp_cpu", "+trainer.num_nodes=3", "loader.batch_size=8"],
            r"loader\.batch_size: 8 images cannot be divided over 6 devices; give a multiple of 6",
        ),
        (
            ["augmentation/mix=classmix", "loader.batch_size=12", "trainer.accumulate_grad_batches=4"],
            r"loader\.batch_size: augmentation\.mix pairs the 3 images .*; give a multiple of 8",
        ),
        (["trainer.accumulate_grad_batches=0"], r"trainer\.accumulate_grad_batches: 0 is not a positive number"),
        (["trainer.accumulate_grad_batches=half"], r"trainer\.accumulate_grad_batches: 'half' is not int"),
        (["trainer.accumulate_grad_batches=null"], r"trainer\.accumulate_grad_batches: None is not int"),
        (
            [
                "+callbacks.more._target_=pytorch_lightning.callbacks.GradientAccumulationScheduler",
                "+callbacks.more.scheduling={2: 4}",
            ],
            r"callbacks\.more: changes how many batches .* give one trainer\.accumulate_grad_batches",
        ),
        (["dataset.label_map={7: 5}"], r"dataset\.label_map: gives the classes \[5\], and there are 0 to 1"),
        (["dataset.num_classes=two", "model.num_classes=2"], r"dataset\.num_classes: 'two' is not int"),
        (["dataset.num_classes=1"], r"dataset\.num_classes: 1; a background is a class too"),
        (["++dataset.crop_sise=64"], r"dataset\.crop_sise: nothing reads this key\. Did you mean dataset\.crop_size\?"),
        (["dataset.fraction=0"], r"dataset\.fraction: 0 is not above 0 to 1, a share of the training images"),
        (["dataset.fraction=1.5"], r"dataset\.fraction: 1\.5 is not above 0 to 1"),
        (["dataset.fraction=true"], r"dataset\.fraction: True is not above 0 to 1"),
        (["dataset.fraction=nan"], r"dataset\.fraction: nan is not above 0 to 1"),
        (["dataset.fraction=half"], r"dataset\.fraction: 'half' is not above 0 to 1"),
        (["dataset.fold=2"], r"dataset\.fold: 2 of what\? Give dataset\.folds"),
        (["dataset.folds=1"], r"dataset\.folds: 1 is not a number of 2 or more; null is no cross-validation"),
        (["dataset.folds=2.5"], r"dataset\.folds: 2\.5 is not a number of 2 or more"),
        (["dataset.folds=true"], r"dataset\.folds: True is not a number of 2 or more"),
        (["dataset.folds=5", "dataset.fold=5"], r"dataset\.fold: 5 is not one of the folds 0 to 4"),
        (["dataset.folds=5", "dataset.fold=-1"], r"dataset\.fold: -1 is not one of the folds 0 to 4"),
        (["dataset.folds=5", "dataset.fold=null"], r"dataset\.fold: None is not one of the folds 0 to 4"),
        (
            ["sampling=repeat_factor", "++sampling.treshold=1"],
            r"sampling\.treshold: .*Did you mean sampling\.threshold\?",
        ),
        (["~sampling._target_"], r"sampling\._target_: missing; name the class"),
        (["++callbacks.progres.every_n_steps=3"], r"callbacks\.progres\._target_: missing"),
        (["optimizer.lr=abc"], r"optimizer\.lr: 'abc' is not "),
        (["optimizer.lr=null"], r"optimizer\.lr: None is not "),
        (["trainer.devices=0"], r"trainer\.devices: 0 asks for no device"),
        (["seed=-1"], r"seed: -1 is not in 0 to"),
        (["dataset.crop_size=16"], r"dataset\.crop_size: 16 is smaller than 32"),
        (["inference.overlap=1"], r"inference\.overlap: 1\.0 is not in"),
        (["inference.scale=0"], r"inference\.scale: 0\.0 is not above 0"),
        (["inference.tile=8"], r"inference\.tile: 8 pixels is too small"),
        (["loader.batch_size=0"], r"loader\.batch_size: 0 is not a positive"),
        (["loader.num_workers=-1"], r"loader\.num_workers: -1 is negative"),
        (["ema_decay=1"], r"ema_decay: 1\.0 is not in"),
        (["checkpoint.monitor=val/iou/nucles"], r"checkpoint\.monitor: .*Did you mean val/iou/nucleus\?"),
        pytest.param(["trainer=gpu"], r"trainer\.accelerator: 'gpu'.*use trainer=cpu", marks=without_gpu),
        pytest.param(["trainer.devices=2"], r"trainer\.devices: 2 asked for.*trainer=ddp_cpu", marks=without_gpu),
    ],
)
def test_problems_name_the_key_the_value_and_the_remedy(
    overrides: list[str], sentence: str, train_config: TrainOverrides
) -> None:
    cfg = train_config(*overrides)
    problems = find_problems(cfg, plain=cfg)
    assert len(problems) == 1, problems
    assert re.search(sentence, problems[0]), problems


@pytest.mark.parametrize("option", ["none", "light", "medical", "standard", "strong", "aerial"])
def test_transforms_of_colours_are_refused_for_images_without(option: str, compose_config: Compose) -> None:
    composed = compose_config(*FOLDER, "dataset.in_channels=5", f"augmentation={option}")
    problems = find_problems(check_keys(composed, TrainConfig), plain=plain_config(composed))
    if option in ("none", "light", "medical"):
        assert problems == []
    else:
        assert problems == [
            "augmentation: ColorJitter is for grey or RGB images, and dataset.in_channels is 5; "
            "use augmentation=light or augmentation=medical"
        ]


def test_a_transform_of_colours_is_found_inside_another_one(train_config: TrainOverrides) -> None:
    cfg = train_config(*FOLDER, "dataset.in_channels=5", "augmentation=light")
    cfg["augmentation"]["transforms"].append(
        {"_target_": "albumentations.OneOf", "transforms": [{"_target_": "albumentations.CLAHE"}]}
    )
    problems = find_problems(cfg, plain=cfg)
    assert any(problem.startswith("augmentation: CLAHE is for grey or RGB images") for problem in problems), problems


def test_all_problems_are_reported_at_once(train_config: TrainOverrides) -> None:
    cfg = train_config("++optimizer.learning_rate=1", "dataset.ignore_index=0", "trainer.max_epochs=abc")
    with pytest.raises(UserError) as error:
        check_objects(cfg, plain=cfg)
    assert str(error.value).startswith("3 problems in the configuration:")
    for key in ("optimizer.learning_rate", "dataset.ignore_index", "trainer.max_epochs"):
        assert key in str(error.value)


def test_a_misspelt_key_in_an_experiment_file_is_an_error(tmp_path: Path, segtrain: Any) -> None:
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    (tmp_path / "my" / "experiment" / "mine.yaml").write_text("# @package _global_\n# mine\nsede: 3\nloadr:\n  x: 1\n")
    done = segtrain("train", "--config-dir", "my", "experiment=mine")
    assert done.returncode == 1
    assert "sede: no such key. Did you mean seed?" in done.stderr
    assert "loadr: no such key. Did you mean loader?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer=ddp_cpu",),
        ("trainer=ddp",),
        ("trainer=ddp", "trainer.devices=2"),
        ("trainer=ddp", "trainer.devices=1", "++trainer.num_nodes=2"),
        ("trainer=fsdp",),
        ("trainer=gpu", "trainer.devices=2"),
        ("trainer=gpu", "trainer.devices=[0,1]"),
        ("trainer=auto", "trainer.devices=-1"),
    ],
    ids=" ".join,
)
def test_several_processes_in_a_sweep_are_refused_with_the_way_out(
    overrides: tuple[str, ...], train_config: TrainOverrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    cfg = train_config(*overrides)
    assert find_problems(cfg) == []
    (problem,) = find_problems(cfg, multirun=True)
    assert problem.startswith("trainer.devices: a sweep in one process cannot start several processes")
    assert "hydra/launcher=slurm" in problem
    if not {"++trainer.num_nodes=2", "trainer=fsdp"} & {*overrides}:  # which one device does not mend
        assert find_problems(train_config(*overrides, "trainer.devices=1"), multirun=True) == []


def test_the_check_builds_nothing(train_config: TrainOverrides, monkeypatch: pytest.MonkeyPatch) -> None:
    from segtrain.models.unet import UNet

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("built")

    cfg = train_config()
    monkeypatch.setattr(UNet, "forward", refuse)
    monkeypatch.setattr("torch.nn.Module.__init__", refuse)
    assert find_problems(cfg) == []


def test_a_key_of_the_users_own_that_something_reads_is_accepted(compose_config: Compose) -> None:
    composed = compose_config("++dataset.side=96", "dataset.crop_size=${dataset.side}")
    cfg = check_keys(composed, TrainConfig)
    assert cfg["dataset"]["crop_size"] == 96
    assert find_problems(cfg, plain=plain_config(composed)) == []


@pytest.mark.parametrize(("word", "value"), [("off", False), ("no", False), ("on", True), ("true", True)])
def test_words_for_true_and_false_are_what_they_say(word: str, value: bool, train_config: TrainOverrides) -> None:
    assert train_config(f"ema={word}")["ema"] is value


def test_predict_does_not_ask_for_the_devices_of_training(train_config: TrainOverrides) -> None:
    cfg = train_config("trainer.accelerator=cpu", "trainer.devices=4", "++trainer.strategy=auto")
    assert len(find_problems(cfg)) == 1
    assert find_problems(cfg, trains=False) == []


def test_a_share_and_a_fold_that_there_can_be_are_no_problem(train_config: TrainOverrides) -> None:
    for overrides in (["dataset.fraction=1"], ["dataset.fraction=0.01", "dataset.folds=5", "dataset.fold=4"]):
        assert find_problems(train_config(*overrides)) == []


@pytest.mark.parametrize("key", ["in_channels", "ignore_index"])
def test_the_check_of_a_data_set_needs_facts_that_no_file_tells(key: str, compose_config: Compose) -> None:
    composed = compose_config(*FOLDER, f"dataset.{key}=null", name="check")
    cfg = check_keys(composed, CheckConfig)
    problems = dataset_problems(cfg, plain=plain_config(composed))
    assert f"dataset.{key}: missing; a data set's YAML says it" in problems


def test_the_check_of_a_data_set_words_its_problems_as_training_does(compose_config: Compose) -> None:
    mistakes = ("dataset.source._target_=segtrain.data.folder.Foldr", "++dataset.clases=3", "dataset.shares=3")
    composed = compose_config(*FOLDER, *mistakes, name="check")
    found = dataset_problems(check_keys(composed, CheckConfig), plain=plain_config(composed))
    training = compose_config(*FOLDER, *mistakes)
    assert len(found) >= 2
    assert set(found) <= set(find_problems(check_keys(training, TrainConfig), plain=plain_config(training)))


@pytest.mark.parametrize("overrides", [["dataset.folds=0"], ["dataset.folds=2.5"], ["dataset.fold=1"]])
def test_folds_are_judged_before_masks_are_read_for_them(
    overrides: list[str], compose_config: Compose, tmp_path: Path
) -> None:
    cfg = compose_config("dataset=folder", f"dataset.root='{tmp_path}'", *overrides)
    with pytest.raises(UserError, match=r"^dataset\.fold"):
        build.complete_classes(cfg, check_keys(cfg, TrainConfig), TrainConfig)


def test_the_classes_of_every_fold_are_those_of_all_images(compose_config: Compose, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(12):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(np.full((8, 8), 2 if number == 3 else 1, np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    for fold in range(3):
        cfg = compose_config("dataset=folder", f"dataset.root='{tmp_path}'", "dataset.folds=3", f"dataset.fold={fold}")
        assert build.complete_classes(cfg, check_keys(cfg, TrainConfig), TrainConfig)["dataset"]["num_classes"] == 3
