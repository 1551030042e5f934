"""Does training start from what it is told to: a file, frozen stages, other norms, auxiliary heads?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from conftest import Compose, Run, only_run

from segtrain import build, training
from segtrain.callbacks.unfreeze import Unfreeze
from segtrain.checkpoint import read_checkpoint
from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import find_problems
from segtrain.config.schema import TrainConfig
from segtrain.errors import UserError
from segtrain.models.norms import FrozenBatchNorm2d

SMALL = ("model.encoder.base_channels=4", "model.encoder.depth=3")
LITE = ("model/encoder=efficientnet_lite0", "model.encoder.weights=imagenet")
MOBILE = ("model/encoder=mobilenet_v3_small",)


@pytest.fixture
def module_for(compose_config: Compose) -> Any:
    """Build the module of a composed config."""

    def built(*overrides: str, restore: bool = False) -> Any:
        composed = compose_config(*overrides)
        cfg = check_keys(composed, TrainConfig)
        return build.build_module(cfg, plain=plain_config(composed), total_steps=10, restore=restore)

    return built


def other_options(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the overrides of a small run without those of U-Net's own encoder."""
    return tuple(argument for argument in bands if not argument.startswith("model.encoder."))


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(overrides, id=",".join(overrides[:2]))
        for overrides in (
            ("model/encoder=resnet18", "norm=group"),
            (*LITE, "norm=frozen", "frozen_stages=2", "param_groups.encoder_lr_factor=0.1"),
            ("model=fcn8s", *MOBILE, "model.aux={stage4: 0.4}"),
            ("model=segnet_basic", "model.encoder.base_channels=8"),
            ("model=deeplabv3", *LITE),
            ("model=unet", "model/encoder=timm", "model.encoder.name=lcnet_050", "model.aux={decoder3: 0.4}"),
            ("model=torchvision", "model.name=lraspp_mobilenet_v3_large"),
            ("model=smp", "model.arch=Segformer", "model.encoder_name=mit_b0"),
        )
    ],
)
@pytest.mark.slow
def test_a_run_trains_saves_and_is_scored_again(
    overrides: tuple[str, ...], segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    done = segtrain("train", *other_options(bands), *overrides, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    again = segtrain("eval", f"checkpoint={run}/checkpoints/best.ckpt")
    assert again.returncode == 0, again.stderr
    first, second = (
        next(line for line in text.splitlines() if "test: mIoU" in line) for text in (done.stdout, again.stdout)
    )
    assert first == second


def test_frozen_stages_and_norms_do_not_change_while_training(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path, module_for: Any
) -> None:
    overrides = (*LITE, "norm=frozen", "frozen_stages=2", "ema=false")
    done = segtrain("train", *other_options(bands), *overrides)
    assert done.returncode == 0, done.stderr
    trained = read_checkpoint(only_run(tmp_path) / "checkpoints" / "last.ckpt")["state_dict"]
    torch.manual_seed(0)
    first = ("model.encoder.net.conv_stem", "model.encoder.net.blocks.0.", "model.encoder.net.blocks.1.")
    frozen = [name for name in trained if name.startswith(first)]
    norms = [name for name in trained if name.startswith("model.encoder.") and "bn" in name]
    learned = [name for name in trained if name.startswith("model.encoder.net.blocks.2") and "conv" in name]
    assert frozen
    assert norms
    assert learned
    import pytorch_lightning as pl

    pl.seed_everything(0, verbose=False)
    before = module_for(*other_options(bands), *overrides).state_dict()
    for name in frozen + norms:
        assert torch.equal(trained[name], before[name]), name
    assert all(not torch.equal(trained[name], before[name]) for name in learned)


def test_norms_are_what_the_config_says_and_a_checkpoint_brings_them_back(module_for: Any) -> None:
    group = module_for("model/encoder=resnet18", "norm=group").model
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in group.modules())
    frozen = module_for("model/encoder=resnet18", "norm=frozen").model
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.encoder.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.encoder.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.decoder.modules())


@pytest.mark.slow
def test_a_run_starts_from_the_checkpoint_of_another_with_more_classes(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path, module_for: Any
) -> None:
    assert segtrain("train", *bands, "trainer.max_epochs=1", "model.encoder.base_channels=8").returncode == 0
    first = only_run(tmp_path) / "checkpoints" / "best.ckpt"
    overrides = (
        *("trainer.max_epochs=1", "model.encoder.base_channels=8", "name=second", f"init_from={first}"),
        *("dataset.num_classes=4", "dataset.class_names=[a,b,c,d]"),
    )
    done = segtrain("train", *bands, *overrides)
    assert done.returncode == 0, done.stderr
    said = next(line for line in (done.stdout + done.stderr).splitlines() if "starting from" in line)
    assert "new, as the file has another shape: classifier.bias, classifier.weight" in said
    assert "missing" not in said


def test_a_run_goes_on_with_the_statistics_of_the_file_it_starts_from(module_for: Any, tmp_path: Path) -> None:
    network = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(network.state_dict(), tmp_path / "fcn.pth")
    module = module_for("model=fcn")
    assert module.normalize.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    training.start_from(module, str(tmp_path / "fcn.pth"), in_channels=3)
    torch.testing.assert_close(module.normalize.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert torch.equal(module.model.encoder.conv1.weight, network.backbone.conv1.weight)
    assert torch.equal(module.model.auxiliary.heads.stage4[0].weight, network.aux_classifier[0].weight)
    assert module.model.classifier[4].weight.shape[0] == 2  # the file's 21 classes are not these


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["model/encoder=resnet18", "model.encoder.weights=IMAGENET"],
            r"model\.encoder\.weights: resnet18 has no 'IMAGENET' \(accepts: IMAGENET1K_V1",
        ),
        (
            ["model/encoder=resnet18", "model.encoder.weights=/no/file.pth"],
            r"model\.encoder\.weights: /no/file\.pth is not a file",
        ),
        (
            ["model/encoder=resnet18", "model.encoder.name=resnet19"],
            r"model\.encoder\.name: ResNetEncoder has no 'resnet19' \(accepts: resnet101",
        ),
        (
            ["model=pspnet", "dataset.crop_size=32"],
            r"dataset\.crop_size: 32 pixels are fewer than the 48 that PSPNet needs",
        ),
        (["model=deeplabv3", "model/encoder=swin_t"], r"model\.encoder\.output_stride: 16 is not one of 32 for swin_t"),
        (["model=segnet", "model/encoder=resnet18"], r"model\.encoder: SegNet undoes max poolings"),
        (
            ["model=unet", "model.aux={stage9: 0.4}"],
            r"model\.aux: the network has no feature called 'stage9' \(accepts: stage1",
        ),
        (["frozen_stages=9"], r"frozen_stages: 9 is not in 0 to 5, the stages of UNetEncoder"),
        (["frozen_stages=1", "model=torchvision"], r"frozen_stages: TorchvisionModel has no encoder of segtrain's"),
        (["model=torchvision", "model.name=unet"], r"model\.name: torchvision has no segmentation network 'unet'"),
        (["model=smp", "model.arch=Unett"], r"model\.arch: the library has no 'Unett' \(accepts: DPT"),
    ],
)
def test_mistakes_about_the_network_are_sentences(module_for: Any, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        module_for(*overrides)


def test_freezing_what_nothing_has_trained_is_refused(compose_config: Compose) -> None:
    def problems(*overrides: str) -> list[str]:
        return find_problems(check_keys(compose_config(*overrides), TrainConfig))

    found = problems("model/encoder=resnet18", "norm=frozen", "frozen_stages=1")
    assert [problem.split(":")[0] for problem in found] == ["norm", "frozen_stages"]
    assert all("give model.encoder.weights or init_from" in problem for problem in found)
    assert problems(*LITE, "norm=frozen", "frozen_stages=1") == []
    assert problems("model/encoder=resnet18", "norm=frozen", "init_from=some.ckpt") == []


def test_the_data_sets_own_statistics_come_first(module_for: Any) -> None:
    module = module_for("++dataset.mean=[0.1,0.2,0.3]", "++dataset.std=[0.4,0.5,0.6]")
    torch.testing.assert_close(module.normalize.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(module.normalize.std.flatten(), torch.tensor([0.4, 0.5, 0.6]))
    with pytest.raises(UserError, match=r"dataset\.mean: 1 values for dataset\.in_channels=3"):
        module_for("++dataset.mean=[0.1]")


def test_a_file_of_another_network_is_refused(module_for: Any, tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"init_from: no tensor of the file fits UNet by name and shape"):
        training.start_from(module_for(), str(tmp_path / "other.pth"), in_channels=3)
    with pytest.raises(UserError, match=r"init_from: .*nowhere\.pth is not a file"):
        training.start_from(module_for(), str(tmp_path / "nowhere.pth"), in_channels=3)


def test_restoring_a_checkpoint_never_asks_for_pretrained_weights(
    module_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    for overrides in (
        ("model/encoder=resnet18", "model.encoder.weights=IMAGENET1K_V1"),
        ("model=torchvision", "model.weights=COCO_WITH_VOC_LABELS_V1"),
        ("model/encoder=timm", "model.encoder.weights=true"),
        ("model=smp", "model.weights=imagenet"),
    ):
        module_for(*overrides, restore=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "muon"])
def test_an_optimizer_passes_over_stages_that_are_frozen_for_a_while(module_for: Any, optimizer: str) -> None:
    overrides = (*SMALL, "frozen_stages=2", f"optimizer={optimizer}", "optimizer.weight_decay=0.5")
    module = module_for(*overrides, "unfreeze_epoch=1")
    made = module.configure_optimizers()["optimizer"]
    assert sum(len(group["params"]) for group in made.param_groups) == len(list(module.model.parameters()))
    frozen = module.model.encoder.frozen_parameters()
    before = [parameter.detach().clone() for parameter in frozen]
    for step in range(2):
        made.zero_grad()
        module.model(torch.rand(2, 3, 32, 32)).square().mean().backward()
        made.step()
        same = [torch.equal(parameter, old) for parameter, old in zip(frozen, before, strict=True)]
        assert not any(same) if step else all(same)
        module.model.encoder.freeze(0)
    assert all(module_.training for module_ in module.model.encoder.modules())
    for_good = module_for(*overrides).configure_optimizers()["optimizer"]
    assert sum(len(g["params"]) for g in for_good.param_groups) == len(list(module.model.parameters())) - len(frozen)


def test_a_strategy_that_cannot_unfreeze_is_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace())
    with pytest.raises(UserError, match=r"unfreeze_epoch: parameters of SimpleNamespace stay frozen; give null"):
        Unfreeze(1).on_fit_start(trainer, None)  # type: ignore[arg-type]
