"""Are timm's networks, whichever it has, encoders with timm's own features, from its files and at any size?"""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from encoder_cases import assert_same_features, randomised
from safetensors.torch import save_file
from torch import Tensor

from segtrain.checkpoint import FORMAT, write_checkpoint
from segtrain.models.encoders import TimmEncoder

NETWORKS = (
    *(
        "lcnet_050",
        "resnet10t",
        "convnext_atto",
        "mambaout_femto",
        "swin_tiny_patch4_window7_224",
        "tf_efficientnet_lite0",
    ),
    *("edgenext_xx_small", "regnety_002"),
)


def file_of(name: str, folder: Path, *, safetensors: bool = False, **arguments: Any) -> tuple[Any, str]:
    """Return timm's classification network with random weights and the file of them."""
    torch.manual_seed(0)
    network = randomised(timm.create_model(name, **arguments))
    path = folder / ("weights.safetensors" if safetensors else "weights.pth")
    (save_file if safetensors else torch.save)(network.state_dict(), path)
    return network, str(path)


def timms_features(network: Any, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return network.forward_intermediates(image, intermediates_only=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_encoder_filled_from_timms_file_has_timms_features(name: str, tmp_path: Path) -> None:
    fixed_size = {"strict_img_size": False} if name.startswith("swin") else {}
    network, path = file_of(name, tmp_path, safetensors=name == "lcnet_050", **fixed_size)
    encoder = TimmEncoder(name, weights=path).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = encoder(image)
    assert_same_features(features, timms_features(network, image)[-len(features) :])  # channels first
    shapes = [(1, c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes


def test_a_vision_transformer_takes_images_of_any_size(tmp_path: Path) -> None:
    network, path = file_of("vit_tiny_patch16_224", tmp_path, dynamic_img_size=True)
    encoder = TimmEncoder("vit_tiny_patch16_224", weights=path).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = encoder(image)
        assert [tuple(f.shape) for f in encoder(image[..., :50, :50])] == [(1, 192, 4, 4)] * 3  # padded to the patches
    assert encoder.strides == (16, 16, 16)
    assert_same_features(features, timms_features(network, image)[-3:])


def test_a_runs_checkpoint_fills_the_encoder_and_brings_its_statistics(tmp_path: Path) -> None:
    trained = randomised(TimmEncoder("lcnet_050"))
    state = {f"model.encoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    state |= {f"normalize.{name}": torch.full((1, 3, 1, 1), 0.25) for name in ("mean", "std")}
    write_checkpoint({"segtrain_format": FORMAT, "state_dict": state}, tmp_path / "a.ckpt")
    encoder = TimmEncoder("lcnet_050", weights=str(tmp_path / "a.ckpt"))
    assert all(torch.equal(tensor, trained.state_dict()[key]) for key, tensor in encoder.state_dict().items())
    assert encoder.mean == encoder.std == (0.25,) * 3


def test_a_file_fills_an_encoder_for_grey_images(tmp_path: Path) -> None:
    network, path = file_of("resnet10t", tmp_path)
    encoder = TimmEncoder("resnet10t", weights=path, in_channels=1).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert_same_features(encoder(image), timms_features(network, image.expand(-1, 3, -1, -1)))
    assert encoder.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


@pytest.mark.parametrize("left_out", ["blocks.3.0.conv_dw.weight", "conv_stem.weight", "blocks.2.0.bn1.running_mean"])
def test_a_file_that_lacks_a_tensor_is_an_error(left_out: str, tmp_path: Path) -> None:
    network, path = file_of("lcnet_050", tmp_path)
    torch.save({key: tensor for key, tensor in network.state_dict().items() if key != left_out}, path)
    with pytest.raises(ValueError, match=rf"lacks 1 of the \d+ tensors of this encoder.*\(net\.{left_out}, "):
        TimmEncoder("lcnet_050", weights=path)


def test_a_file_with_module_names_in_place_of_the_flat_ones_is_seen_as_complete_or_not(tmp_path: Path) -> None:
    # the features of ConvNeXt call stages.1 stages_1
    network, path = file_of("convnext_atto", tmp_path)
    left_out = "stages.1.blocks.0.mlp.fc1.weight"
    torch.save({key: tensor for key, tensor in network.state_dict().items() if key != left_out}, path)
    with pytest.raises(ValueError, match=r"lacks 1 of .*\(net\.stages_1\.blocks\.0\.mlp\.fc1\.weight, "):
        TimmEncoder("convnext_atto", weights=path)


def test_a_file_of_another_network_is_an_error(tmp_path: Path) -> None:
    _, path = file_of("resnet14t", tmp_path)
    with pytest.raises(ValueError, match=r"weights: .*(lacks|no tensor of the file fits)"):
        TimmEncoder("lcnet_050", weights=path)


@pytest.mark.parametrize(
    ("small", "large"), [("resnet18", "resnet34"), ("tf_efficientnet_lite0", "tf_efficientnet_lite1")]
)
def test_a_file_of_a_larger_network_is_an_error(small: str, large: str, tmp_path: Path) -> None:
    _, path = file_of(large, tmp_path)
    with pytest.raises(ValueError, match=r"tensors that this encoder has no layers for .*is it the same network\?"):
        TimmEncoder(small, weights=path)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("name", ["lcnet_050", "resnet10t", "convnext_atto"])
def test_dilation_is_timms(name: str, output_stride: int) -> None:
    encoder = TimmEncoder(name, output_stride=output_stride).eval()
    theirs = timm.create_model(name, features_only=True, output_stride=output_stride).eval()
    theirs.load_state_dict(encoder.net.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = encoder(image)
        assert all(torch.equal(ours, their) for ours, their in zip(features, theirs(image), strict=True))
    assert encoder.strides[-1] == output_stride
    assert features[-1].shape[-2:] == (64 // output_stride, 64 // output_stride)


@pytest.mark.parametrize("name", ["convnext_atto", "lcnet_050"])
def test_the_last_block_is_left_out_with_the_given_probability(name: str) -> None:
    probabilities = [
        module.drop_prob
        for module in TimmEncoder("convnext_atto", drop_path=0.4).modules()
        if isinstance(module, timm.layers.DropPath)
    ]
    assert max(probabilities) == probabilities[-1] == pytest.approx(0.4)
    assert probabilities == sorted(probabilities)
    plain = TimmEncoder(name).modules()
    assert not any(isinstance(module, timm.layers.DropPath) and module.drop_prob > 0 for module in plain)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Record what timm is asked for, and give random weights where pretrained ones are asked for."""
    calls: list[tuple[str, bool]] = []
    original = timm.create_model

    def create_model(name: str, *, pretrained: bool = False, **arguments: Any) -> Any:
        calls.append((name, pretrained))
        return original(name, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", create_model)
    return calls


@pytest.mark.parametrize(
    ("name", "weights", "asked", "mean", "std"),
    [
        # mobilenetv3_large_100.miil_in21k was trained on images in 0 to 1; see timm's card
        ("mobilenetv3_large_100", "miil_in21k", "mobilenetv3_large_100.miil_in21k", (0.0,) * 3, (1.0,) * 3),
        ("mobilenetv3_large_100.miil_in21k", True, "mobilenetv3_large_100.miil_in21k", (0.0,) * 3, (1.0,) * 3),
        ("lcnet_050", True, "lcnet_050", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_timms_weights_are_asked_for_by_tag_and_bring_their_statistics(
    name: str,
    weights: Any,
    asked: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    created: list[tuple[str, bool]],
) -> None:
    encoder = TimmEncoder(name, weights=weights)
    assert created[-1] == (asked, True)
    assert (encoder.mean, encoder.std) == (mean, std)


def test_without_weights_nothing_is_asked_for(created: list[tuple[str, bool]]) -> None:
    encoder = TimmEncoder("lcnet_050")
    assert not any(pretrained for _, pretrained in created)
    assert encoder.mean == encoder.std == (0.5,) * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "resnet_18"}, r"name: timm has no 'resnet_18' \(near it: .*resnet"),
        ({"name": "nosuchnet"}, r"name: timm has no 'nosuchnet' \(near it: none; see timm.list_models"),
        ({"name": "lcnet_050.nope"}, "name: timm cannot build lcnet_050.nope .*Invalid pretrained tag"),
        ({"weights": "nope"}, r"weights: timm's lcnet_050 has no 'nope' \(accepts: ra2_in1k, true, a file, or null"),
        ({"name": "hiera_tiny_224"}, "name: timm's hiera_tiny_224 has no features for images of any size"),
        ({"output_stride": 4}, "output_stride: 4 is not one of 8, 16, 32"),
        (
            {"name": "swin_tiny_patch4_window7_224", "output_stride": 16},
            "output_stride: timm's swin_tiny.* cannot do 16",
        ),
        ({"drop_path": 1.5}, "drop_path: 1.5 is not in 0 to below 1"),
        ({"name": "vgg11", "drop_path": 0.5}, "name: timm cannot build vgg11 as an encoder .*drop_path_rate"),
    ],
)
def test_what_timm_cannot_do_is_an_error_that_says_what_it_can(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TimmEncoder(**{"name": "lcnet_050", **arguments})


def test_weights_that_do_not_exist_are_an_error() -> None:
    without = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(ValueError, match=f"weights: timm has none for {without}; give null or a file"):
        TimmEncoder(without, weights=True)


@pytest.mark.parametrize("weights", [True, "ra2_in1k"])
def test_weights_that_cannot_be_downloaded_are_an_error_with_the_remedy(
    weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"weights: those of timm's lcnet_050.* cannot be downloaded .*give weights null"
    ):
        TimmEncoder("lcnet_050", weights=weights)


def test_without_timm_the_error_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed .*pip install 'timm>=1\.0\.15,<2'"):
        TimmEncoder("lcnet_050")
