"""Can a checkpoint's config name nothing but component classes of trusted packages?"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose

from segtrain.checkpoint import FORMAT, write_checkpoint
from segtrain.config.check import check_keys
from segtrain.config.problems import check_objects
from segtrain.config.schema import EvalConfig
from segtrain.config.trust import trust_problems
from segtrain.errors import UserError
from segtrain.launch import _compose_from_checkpoint

TrainOverrides = Callable[..., dict[str, Any]]


def problems(target: str, trusted_by_user: list[str] | None = None) -> list[str]:
    return trust_problems({"model": {"encoder": {"_target_": target}}}, trusted_by_user or [])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "torch.hub.load",
        "torch.load",
        "torchvision.datasets.CIFAR10",
        "hydra.utils.instantiate",
        "segtrainevil.Net",
        "torch.nnevil.Net",
        "albumentationsevil.Flip",
    ],
)
def test_what_is_not_of_a_trusted_package_is_refused_with_the_remedy(target: str) -> None:
    (problem,) = problems(target)
    assert problem.startswith(
        f"model.encoder._target_: the checkpoint asks for '{target}', which segtrain does not trust"
    )
    assert f"trust=[{target.split('.')[0]}]" in problem


@pytest.mark.parametrize(
    "target",
    [
        "segtrain.cli.os.system",  # a module of ours that imports it
        "segtrain.cli.runpy.run_module",
        "segtrain.checkpoint.pickle.Unpickler",
        "segtrain.checkpoint.Path",
        "segtrain.config.targets.importlib.import_module",
        "segtrain.models.unet.torch.hub.load",
        "segtrain.build.node.instantiate",
        "segtrain.metrics.confusion.Metric",  # a component class, of torchmetrics
        "segtrain.data.pairs.Dataset",
        "torch.nn.functional.relu",
        "torch.nn.init.kaiming_normal_",
        "torchvision.models.get_model",
        "torchvision.models.segmentation.fcn_resnet50",
        "segtrain.data.images.read_channels",
        "segtrain.data.mixing.np.load",
        "segtrain.data.sampling.Samples.presence",
        "segtrain.data.parts.Folds",
        "segtrain.data.caching.cache_on_disk",
        "segtrain.module",
        "segtrain.inference.files.Job",
        "segtrain.errors.UserError",
    ],
)
def test_functions_modules_and_classes_that_are_no_component_are_refused(target: str) -> None:
    (problem,) = problems(target)
    assert problem == f"model.encoder._target_: '{target}' is not a class that a checkpoint may name"


@pytest.mark.parametrize(
    "target",
    [
        "segtrain.models.unet.UNet",
        "segtrain.models.UNet",
        "segtrain.data.nuclei.Nuclei",
        "segtrain.data.crop.RandomScaleCrop",
        "segtrain.data.color.ColorJitter",
        "segtrain.data.mixing.CutMix",
        "segtrain.data.sampling.BalancedByClass",
        "segtrain.data.sampling.ByWeight",
        "segtrain.callbacks.pictures.Pictures",
        "segtrain.callbacks.plateau.StepPlateau",
        "segtrain.optimizers.Lion",
        "segtrain.optimizers.Muon",
        "segtrain.schedulers.OneCycleLR",
        "segtrain.schedulers.PlateauLR",
        "segtrain.schedulers.PolyLR",
        "segtrain.schedulers.WSDLR",
        "torch.nn.Conv2d",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "torch.optim.lr_scheduler.StepLR",
        "torchvision.models.ResNet",
        "albumentations.HorizontalFlip",
        "albumentations.OneOf",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.loggers.CSVLogger",
    ],
)
def test_component_classes_of_trusted_packages_are_accepted(target: str) -> None:
    assert problems(target) == []


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=deeplabv3plus", "loss=ce", "optimizer=sgd", "scheduler=cosine", "augmentation=light"),
        ("model/encoder=mobilenet_v2", "loss=dice", "scheduler=constant", "augmentation=none", "callbacks=none"),
        ("dataset=camvid", "dataset.root=x", "trainer=cpu", "logger=none"),
        ("experiment=camvid_small", "dataset.root=x"),
        ("augmentation=strong", "augmentation/mix=copy_paste"),
    ],
)
def test_the_shipped_configs_are_trusted(overrides: tuple[str, ...], train_config: TrainOverrides) -> None:
    assert trust_problems(train_config(*overrides)) == []


def test_every_target_of_a_config_is_judged_however_deep() -> None:
    evil = {"_target_": "os.system"}
    cfg = {"a": [evil, {"b": evil}], "c": {"_target_": "torch.nn.ReLU", "d": {"e": [[evil]]}}}
    assert [problem.split(":")[0] for problem in trust_problems(cfg)] == [
        "a[0]._target_",
        "a[1].b._target_",
        "c.d.e[0][0]._target_",
    ]


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a user's module with a network and a function; a file appears when it is imported."""
    imported = tmp_path / "imported"
    (tmp_path / "mynet.py").write_text(
        "from pathlib import Path\nfrom os import system\nfrom torch import nn\n"
        f"Path({str(imported)!r}).touch()\n"
        "class Net(nn.Module):\n    pass\n"
        "def build():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    return imported


def test_a_package_that_the_user_trusts_may_give_what_it_defines_and_nothing_else(mynet: Path) -> None:
    assert problems("mynet.Net", ["mynet"]) == []
    assert problems("mynet.build", ["mynet"]) == []  # a function of it
    assert len(problems("mynet.build")) == 1
    assert problems("mynet.Net", ["mynet."]) == []
    assert len(problems("mynet.system", ["mynet"])) == 1
    assert len(problems("mynet.nn.Conv2d", ["mynet"])) == 0  # a trusted class by another path
    assert len(problems("mynetwork.Net", ["mynet"])) == 1


def test_a_package_that_is_not_trusted_is_not_even_imported(mynet: Path) -> None:
    assert len(problems("mynet.Net")) == 1
    assert not mynet.exists()
    assert problems("mynet.Net", ["mynet"]) == []
    assert mynet.exists()


def test_a_checkpoint_cannot_trust_itself(
    mynet: Path,
    tmp_path: Path,
    train_config: TrainOverrides,
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {**train_config(), "trust": ["mynet"], "model": {"_target_": "mynet.Net"}}
    path = tmp_path / "evil.ckpt"
    write_checkpoint({"segtrain_format": FORMAT, "config": config, "state_dict": {}}, path)
    monkeypatch.setattr(sys, "argv", ["segtrain eval", f"checkpoint={path}"])
    _compose_from_checkpoint("eval", "checkpoint")

    values = check_keys(compose_config(f"checkpoint={path}", name="eval"), EvalConfig)
    with pytest.raises(UserError, match=r"the checkpoint asks for 'mynet\.Net', which segtrain does not trust"):
        check_objects(values, plain=values, from_checkpoint=True)
    assert not mynet.exists()
