"""Is every wrong `_target_`, argument and plain type found from the signatures, before anything is built?"""

import sys
from pathlib import Path
from typing import Any

import pytest

from segtrain.config.targets import accepted_arguments, locate, target_problems, walk_targets

UNET = {"_target_": "segtrain.models.UNet", "num_classes": 2}
RESNET = {"_target_": "segtrain.models.encoders.ResNetEncoder"}


def problems(target: str, path: str = "model", **arguments: Any) -> list[str]:
    return target_problems({path: {"_target_": target, **arguments}})


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("segtrain.models.UNt", "no 'UNt' in segtrain.models. Did you mean UNet?"),
        ("segtrain.model.UNet", "no 'model' in segtrain."),
        ("torch.optim.Adamm", "no 'Adamm' in torch.optim. Did you mean Adam?"),
        ("nowhere.Net", "no 'nowhere' to import."),
        ("UNet", "no 'UNet' to import."),
    ],
)
def test_an_unknown_target_is_named_with_the_nearest_spelling(target: str, sentence: str) -> None:
    assert only(problems(target)).startswith(f"model._target_: {target!r}: {sentence}")


def test_a_target_that_cannot_be_called_is_refused() -> None:
    assert only(problems("torch.pi")) == "model._target_: 'torch.pi' is not a class or function"


def test_an_unknown_argument_is_named_with_the_nearest_and_all_accepted_ones() -> None:
    problem = only(problems("segtrain.models.UNet", num_classes=2, upsampeling="bilinear"))
    assert problem.startswith(
        "model.upsampeling: UNet takes no such argument. Did you mean model.upsampling? (accepts: "
    )
    assert "num_classes, encoder, decoder_channels, upsampling" in problem


def test_a_missing_argument_is_named() -> None:
    assert only(problems("segtrain.models.UNet")) == "model.num_classes: UNet needs it; give model.num_classes=..."


def test_what_a_partial_target_gets_later_is_not_missing() -> None:
    assert problems("segtrain.models.UNet", _partial_=True) == []
    assert problems("torch.optim.SGD", "optimizer", lr=0.1) == []
    assert problems("segtrain.schedulers.PolyLR", "scheduler", power=0.9) == []
    assert "params" in only(problems("torch.optim.SGD", "other", lr=0.1))


@pytest.mark.parametrize(
    ("path", "target", "key"),
    [
        ("optimizer", "torch.optim.SGD", "params"),
        ("scheduler", "segtrain.schedulers.PolyLR", "total_steps"),
        ("trainer", "pytorch_lightning.Trainer", "callbacks"),
    ],
)
def test_what_segtrain_gives_itself_cannot_be_given(path: str, target: str, key: str) -> None:
    problem = only(problems(target, path, **{key: []}))
    assert problem.endswith("segtrain gives {} this argument itself; remove it".format(target.rsplit(".", 1)[1]))


@pytest.mark.parametrize(
    ("target", "key", "value", "wanted"),
    [
        ("segtrain.models.UNet", "num_classes", "two", "int"),
        ("segtrain.models.UNet", "num_classes", 2.5, "int"),
        ("segtrain.models.UNet", "num_classes", True, "int"),
        ("segtrain.models.UNet", "num_classes", None, "int"),
        ("segtrain.models.UNet", "upsampling", 3, "str"),
        ("segtrain.models.DeepLabV3Plus", "separable", "yes", "bool"),
        ("segtrain.models.DeepLabV3Plus", "dropout", "0.1", "float"),
        ("segtrain.models.DeepLabV3Plus", "dropout", False, "float"),
    ],
)
def test_a_plain_value_of_another_type_is_refused(target: str, key: str, value: Any, wanted: str) -> None:
    given = {"num_classes": 2, key: value}
    assert only(problems(target, **given)) == f"model.{key}: {value!r} is not {wanted}"


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("segtrain.models.DeepLabV3Plus", {"num_classes": 2, "dropout": 1}),
        ("segtrain.models.DeepLabV3Plus", {"num_classes": 2, "atrous_rates": [1, 2]}),
        ("segtrain.models.DeepLabV3Plus", {"num_classes": 2, "atrous_rates": None, "encoder": RESNET}),
        ("segtrain.models.encoders.ResNetEncoder", {"weights": None}),
        ("segtrain.models.encoders.ResNetEncoder", {"weights": "IMAGENET1K_V1"}),
        ("pytorch_lightning.Trainer", {"devices": 2, "precision": "bf16-mixed", "strategy": "ddp"}),
        ("pytorch_lightning.Trainer", {"devices": "auto", "precision": 32}),
    ],
)
def test_values_that_fit_are_accepted(target: str, arguments: dict[str, Any]) -> None:
    assert problems(target, **arguments) == []


def test_a_sequence_cannot_be_given_as_one_number_or_word() -> None:
    for value in (6, "6,12"):
        problem = only(problems("segtrain.models.DeepLabV3Plus", num_classes=2, atrous_rates=value))
        assert problem.startswith(f"model.atrous_rates: {value!r} is not ")


def test_precision_auto_is_accepted_for_the_trainer_alone() -> None:
    assert problems("pytorch_lightning.Trainer", "trainer", precision="auto") == []
    assert "precision" in only(problems("pytorch_lightning.Trainer", "model", precision="auto"))


@pytest.mark.parametrize("key", ["num_clases", "nonsense"])
def test_an_argument_that_torchvision_swallows_silently_is_refused(key: str) -> None:
    problem = only(problems("torchvision.models.segmentation.fcn_resnet50", weights=None, **{key: 3}))
    assert problem.startswith(f"model.{key}: fcn_resnet50 takes no such argument.")


def test_an_argument_that_torchvision_hands_on_is_accepted() -> None:
    assert problems("torchvision.models.resnet18", weights=None, norm_layer=None) == []
    assert "widht" in only(problems("torchvision.models.resnet18", widht=3))


@pytest.mark.parametrize("name", ["HorizontalFlip", "ColorJitter", "RandomCrop", "Affine"])
def test_an_argument_that_albumentations_only_warns_of_is_refused(name: str) -> None:
    sizes = {"height": 4, "width": 4} if name == "RandomCrop" else {}
    assert problems(f"albumentations.{name}", **sizes, p=0.5) == []
    assert "probability" in only(problems(f"albumentations.{name}", **sizes, probability=0.5))


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a user's module with keyword arguments of every kind on the path."""
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "class Base(nn.Module):\n"
        "    def __init__(self, num_classes: int, width: int = 8):\n        super().__init__()\n"
        "class Middle(Base):\n"
        "    def __init__(self, *, depth: int = 3, **kwargs):\n        super().__init__(**kwargs)\n"
        "class Net(Middle):\n"
        "    def __init__(self, *, dropout: float, **kwargs):\n        super().__init__(**kwargs)\n"
        "class Same(Net):\n    pass\n"
        "class Open(nn.Module):\n"
        "    def __init__(self, **kwargs):\n        super().__init__()\n"
        "def build(dropout: float, **kwargs) -> Middle:\n    return Middle(**kwargs)\n"
        "def unknown(**kwargs):\n    return Middle(**kwargs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)


@pytest.mark.usefixtures("mynet")
@pytest.mark.parametrize("target", ["mynet.Net", "mynet.Same", "mynet.build"])
def test_keyword_arguments_are_followed_up_to_the_class_that_takes_them(target: str) -> None:
    given = {"num_classes": 2, "width": 4, "depth": 2, "dropout": 0.5}
    assert problems(target, **given) == []
    problem = only(problems(target, **given, widht=2))
    assert "takes no such argument. Did you mean model.width?" in problem
    assert only(problems(target, **{**given, "width": "wide"})) == "model.width: 'wide' is not int"
    name = target.removeprefix("mynet.")
    assert only(problems(target, num_classes=2)) == f"model.dropout: {name} needs it; give model.dropout=..."


@pytest.mark.usefixtures("mynet")
@pytest.mark.parametrize("target", ["mynet.Open", "mynet.unknown"])
def test_arguments_that_only_the_author_knows_are_left_to_the_author(target: str) -> None:
    assert problems(target, anything=1) == []


@pytest.mark.usefixtures("mynet")
def test_arguments_of_a_class_are_those_of_its_signature() -> None:
    mynet = locate("mynet.Net")
    assert {name: required for name, (required, _) in (accepted_arguments(mynet) or {}).items()} == {
        **dict.fromkeys(["num_classes", "width", "depth"], False),
        "dropout": True,
    }


def test_a_package_that_an_import_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "needs the package not_installed_anywhere, which is not installed" in only(problems("needy.Net"))


@pytest.mark.parametrize("text", ["raise RuntimeError('no licence')", "def broken(:"])
def test_a_users_module_that_fails_shows_its_own_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises((RuntimeError, SyntaxError), match=r"no licence|invalid syntax"):
        problems("failing.Net")


def test_targets_inside_lists_and_arguments_are_checked_too() -> None:
    cfg = {
        "loss": {
            "_target_": "segtrain.losses.WeightedSum",
            "weights": [1.0],
            "losses": [{"_target_": "torch.nn.Nothing"}],
        }
    }
    assert only(target_problems(cfg)).startswith(
        "loss.losses[0]._target_: 'torch.nn.Nothing': no 'Nothing' in torch.nn"
    )


def test_all_problems_are_found_at_once() -> None:
    cfg = {
        "model": {**UNET, "typo": 1, "encoder": {**RESNET, "weigths": None}},
        "optimizer": {"_target_": "torch.optim.SDG"},
    }
    assert [problem.split(":")[0] for problem in target_problems(cfg)] == [
        "model.typo",
        "model.encoder.weigths",
        "optimizer._target_",
    ]


def test_targets_are_walked_from_the_outside_in() -> None:
    cfg = {"b": [{"_target_": "x", "a": {"_target_": "y"}}, 3], "c": {"d": {"_target_": "z"}}, "e": None}
    assert [(path, node["_target_"]) for path, node in walk_targets(cfg)] == [
        ("b[0]", "x"),
        ("b[0].a", "y"),
        ("c.d", "z"),
    ]


def test_nothing_is_built_while_checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "costly.py").write_text(
        "class Net:\n    def __init__(self, a: int):\n        raise SystemExit('built')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert problems("costly.Net", a=1) == []
