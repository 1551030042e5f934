"""Do weights from files arrive whole, and is everything else refused in a sentence and never run?"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_cases import assert_same_features, network, randomised
from safetensors.torch import save_file
from torch import Tensor, nn

from segtrain.checkpoint import FORMAT, write_checkpoint
from segtrain.models.encoders import ConvNeXtEncoder, MobileNetEncoder, ResNetEncoder, TimmEncoder
from segtrain.models.norms import change_norms
from segtrain.models.weights import fit_weights, is_file_name, read_weights, spread_over_channels

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict", "state_dict_ema"])
def test_the_tensors_of_a_file_are_found_under_the_usual_keys(suffix: str, key: str | None, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(TENSORS if key is None else {"epoch": 3, key: TENSORS, "note": "x"}, path)
    found = read_weights(path)
    assert_equal(found.tensors, TENSORS)
    assert found.statistics is None


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert_equal(read_weights(tmp_path / "a.safetensors").tensors, TENSORS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("IMAGENET1K_V1", False), ("imagenet", False), ("in12k_ft_in1k", False), ("a.pth", True), ("runs/x", True)],
)
def test_files_are_told_from_names_of_weights(text: str, expected: bool) -> None:
    assert is_file_name(text) == expected


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def write_broken(folder: Path, name: str) -> Path:
    """Write a file that holds no weights, each in its own way."""
    path = folder / name
    save_file(TENSORS, folder / "whole.safetensors")
    torch.save(TENSORS, folder / "whole.pth")
    if name == "text.pth":
        path.write_text("hello world\n")
    elif name in ("empty.pth", "empty.safetensors"):
        path.touch()
    elif name.startswith("truncated"):
        content = (folder / f"whole{path.suffix}").read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
    elif name == "nothing.pth":
        torch.save({}, path)
    elif name == "list.pth":
        torch.save([torch.ones(2)], path)
    elif name == "object.pth":
        torch.save({"state_dict": Touch(folder / "touched")}, path)
    elif name == "text.ckpt":
        path.write_text("hello")
    elif name == "lightnings.ckpt":
        torch.save({"state_dict": TENSORS}, path)
    elif name == "damaged.ckpt":
        write_checkpoint({"segtrain_format": FORMAT, "state_dict": TENSORS}, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.pth", "weights: {} is not a file"),
        ("missing.safetensors", "weights: {} is not a file"),
        ("missing.ckpt", "weights: {} is not a file"),
        ("text.pth", "weights: {} is damaged, or holds more than tensors (KeyError); save a state_dict()"),
        ("empty.pth", "weights: {} is damaged, or holds more than tensors (EOFError); save a state_dict()"),
        ("truncated.pth", "weights: {} is damaged, or holds more than tensors (RuntimeError)"),
        ("object.pth", "weights: {} is damaged, or holds more than tensors (UnpicklingError)"),
        ("nothing.pth", "weights: {} holds no tensors by name; save a state_dict()"),
        ("list.pth", "weights: {} holds no tensors by name; save a state_dict()"),
        ("empty.safetensors", "weights: {} is no safetensors file, or is damaged"),
        ("truncated.safetensors", "weights: {} is no safetensors file, or is damaged"),
        ("text.ckpt", "checkpoint: {} is no checkpoint, or is truncated"),
        ("lightnings.ckpt", "checkpoint: {} was not written by segtrain"),
        ("damaged.ckpt", "checkpoint: {} is damaged: its checksum does not fit"),
    ],
)
def test_a_file_without_weights_is_an_error_that_says_why(name: str, sentence: str, tmp_path: Path) -> None:
    path = write_broken(tmp_path, name)
    for build in (MobileNetEncoder, TimmEncoder):
        with pytest.raises(ValueError, match=re.escape(sentence.format(path))):
            build("mobilenet_v3_small" if build is MobileNetEncoder else "lcnet_050", weights=str(path))
    assert not (tmp_path / "touched").exists()


def test_without_the_package_a_safetensors_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"safetensors is not installed .*pip install 'safetensors>=0\.4'"):
        read_weights(tmp_path / "a.safetensors")


def save_run(path: Path, *, channels: int) -> dict[str, Tensor]:
    """Write a checkpoint as a run does, of a network around resnet18; return its encoder's weights."""
    encoder = randomised(ResNetEncoder("resnet18", in_channels=channels))
    weights = {f"model.encoder.{key}": tensor for key, tensor in encoder.state_dict().items()}
    state = {
        **weights,
        "model.classifier.weight": torch.ones(2, 3),
        "normalize.mean": torch.linspace(0.1, 0.4, channels).view(1, channels, 1, 1),
        "normalize.std": torch.linspace(0.2, 0.3, channels).view(1, channels, 1, 1),
    }
    write_checkpoint({"segtrain_format": FORMAT, "state_dict": state, "config": {}}, path)
    return {key.removeprefix("model.encoder."): tensor for key, tensor in weights.items()}


def test_a_runs_checkpoint_fills_the_encoder_and_brings_its_statistics(tmp_path: Path) -> None:
    weights = save_run(tmp_path / "best.ckpt", channels=4)
    encoder = ResNetEncoder("resnet18", in_channels=4, weights=str(tmp_path / "best.ckpt"))
    assert_equal(encoder.state_dict(), weights)
    assert encoder.mean == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert encoder.std == pytest.approx([0.2, 0.2 + 0.1 / 3, 0.2 + 0.2 / 3, 0.3])


def test_a_runs_checkpoint_of_rgb_images_serves_grey_ones(tmp_path: Path) -> None:
    weights = save_run(tmp_path / "best.ckpt", channels=3)
    encoder = ResNetEncoder("resnet18", in_channels=1, weights=str(tmp_path / "best.ckpt"))
    torch.testing.assert_close(encoder.conv1.weight, weights["conv1.weight"].sum(dim=1, keepdim=True))
    assert (encoder.mean, encoder.std) == (pytest.approx([0.25]), pytest.approx([0.25]))


def test_a_runs_checkpoint_of_a_network_with_its_own_norms_brings_them(tmp_path: Path) -> None:
    trained = ConvNeXtEncoder("convnext_tiny")
    for norm in trained.norms:
        nn.init.uniform_(norm.weight)
    state = {f"model.encoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    state |= {f"normalize.{name}": torch.full((1, 3, 1, 1), 0.5) for name in ("mean", "std")}
    write_checkpoint({"segtrain_format": FORMAT, "state_dict": state}, tmp_path / "a.ckpt")
    encoder = ConvNeXtEncoder("convnext_tiny", weights=str(tmp_path / "a.ckpt"))
    assert_equal(encoder.state_dict(), dict(trained.state_dict()))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "net.backbone.", ""])
def test_a_prefix_of_the_names_is_left_out(prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{key}": tensor for key, tensor in network("resnet18").state_dict().items()}
    torch.save({**state, "head.weight": torch.ones(3)}, tmp_path / "a.pth")
    encoder = ResNetEncoder("resnet18", weights=str(tmp_path / "a.pth")).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        rgb = network("resnet18")
        last = nn.Sequential(*list(rgb.children())[:-2])(image)  # all but pooling and classifier
        assert_same_features(encoder(image)[-1:], [last])


def test_a_file_of_another_network_is_an_error_that_names_what_lacks(tmp_path: Path) -> None:
    torch.save(network("resnet18").state_dict(), tmp_path / "resnet18.pth")
    # eight more blocks of 2 convolutions and 2 norms; 36 layers with 36 norms, and the counters of 20
    with pytest.raises(ValueError, match=r"lacks 80 of the 200 tensors .*\(layer1\.2\.conv1\.weight, .*same network\?"):
        ResNetEncoder("resnet34", weights=str(tmp_path / "resnet18.pth"))
    torch.save(network("resnet34").state_dict(), tmp_path / "resnet34.pth")  # has all of resnet18's, and more between
    with pytest.raises(ValueError, match=r"has 96 tensors that this encoder has no layers for \(layer1\.2"):
        ResNetEncoder("resnet18", weights=str(tmp_path / "resnet34.pth"))
    with pytest.raises(ValueError, match=r"no tensor of the file fits MobileNetEncoder .*the file has conv1\.weight"):
        MobileNetEncoder("mobilenet_v3_small", weights=str(tmp_path / "resnet18.pth"))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)
        self.extra = nn.Parameter(torch.zeros(2))


def test_the_report_says_what_became_of_every_tensor() -> None:
    module = Small()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    rgb = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).view(2, 3, 1, 1)
    theirs = {
        "net.stem.weight": rgb,
        "net.norm.weight": torch.tensor([2.0, 3.0]),
        "net.norm.bias": torch.tensor([4.0, 5.0]),
        "net.norm.running_mean": torch.tensor([6.0, 7.0]),
        "net.norm.running_var": torch.tensor([8.0, 9.0]),
        "net.head.weight": torch.ones(5, 2),
        "net.head.bias": torch.tensor([1.0, 2.0, 3.0]),
        "net.other.weight": torch.ones(1),
        "optimizer": torch.ones(1),
    }
    fit = fit_weights(module, theirs)
    # 8 tensors, and a counter that the file does not have
    assert fit.total == 8
    assert sorted(fit.loaded) == sorted(
        ["stem.weight", "head.bias", *(f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var"))]
    )
    assert fit.adapted == ["stem.weight"]
    assert fit.other_shape == ["head.weight"]
    assert fit.missing == ["extra"]
    assert fit.unused == ["net.other.weight", "optimizer"]
    assert fit.sentence() == (
        "6 of 8 tensors; adapted to the image's channels: stem.weight; "
        "new, as the file has another shape: head.weight; new, as the file does not have them: extra; "
        "not used: net.other.weight, optimizer"
    )
    after = module.state_dict()
    assert after["stem.weight"].flatten().tolist() == [6.0, 15.0]  # the sums over red, green and blue
    assert after["norm.running_var"].tolist() == [8.0, 9.0]
    assert after["head.bias"].tolist() == [1.0, 2.0, 3.0]
    assert all(torch.equal(after[key], before[key]) for key in ("head.weight", "extra", "norm.num_batches_tracked"))


def test_a_counter_alone_is_no_fit() -> None:
    with pytest.raises(ValueError, match=r"no tensor of the file fits Small .*norm\.num_batches_tracked; wanted"):
        fit_weights(Small(), {"norm.num_batches_tracked": torch.tensor(3)})


def test_the_encoder_of_a_run_with_group_norm_is_refused_with_the_way_out(tmp_path: Path) -> None:
    trained = ResNetEncoder("resnet18")
    change_norms(trained, "group")
    state = {f"model.encoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    state |= {f"normalize.{name}": torch.full((1, 3, 1, 1), 0.25) for name in ("mean", "std")}
    write_checkpoint({"segtrain_format": FORMAT, "state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"norm=group, .*give norm=group and init_from="):
        ResNetEncoder("resnet18", weights=str(tmp_path / "a.ckpt"))


@pytest.mark.parametrize("in_channels", [1, 2, 6])
def test_spreading_keeps_what_a_grey_pixel_gives(in_channels: int) -> None:
    weight = torch.randn(5, 3, 2, 2)
    spread = spread_over_channels(weight, in_channels)
    assert spread.shape == (5, in_channels, 2, 2)
    torch.testing.assert_close(spread.sum(dim=1), weight.sum(dim=1))
    own = 3 if in_channels > 3 else 0  # red, green and blue keep their weights, the rest have the mean
    torch.testing.assert_close(spread[:, :own], weight[:, :own] * 3 / in_channels)
    assert all(torch.equal(spread[:, own], spread[:, channel]) for channel in range(own, in_channels))
