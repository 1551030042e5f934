"""Do segmentation_models_pytorch's architectures build and predict at any size, and are mistakes sentences?"""

import sys
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from every_model import assert_same, without_gradient

from segtrain.models import SMPModel
from segtrain.models.smp import ARCHITECTURES
from segtrain.models.weights import WeightFile

VIT = "tu-vit_tiny_patch16_224"
ENCODERS = {"Segformer": "mit_b0", "DPT": VIT}


def small(arch: str, **options: Any) -> SMPModel:
    torch.manual_seed(0)
    return SMPModel(3, arch=arch, encoder_name=ENCODERS.get(arch, "resnet18"), **options).eval()


def test_the_architectures_are_all_that_the_library_has() -> None:
    theirs = {network.__name__ for network in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    assert set(ARCHITECTURES) == theirs


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_predicts_images_of_any_size_with_the_librarys_values(arch: str) -> None:
    net = small(arch)
    with torch.no_grad():
        for size in ((33, 47), (97, 65)):
            assert net(torch.rand(1, 3, *size)).shape == (1, 3, *size)
        image = torch.rand(1, 3, 128, 256)  # a multiple of every stride: nothing is padded
        assert_same(net(image), net.net(image))


@pytest.mark.parametrize(("arch", "encoder"), [("Unet", "resnet18"), ("Segformer", "mit_b0"), ("FPN", "tu-resnet18")])
def test_an_odd_image_is_padded_with_zeros_at_the_right_and_bottom(arch: str, encoder: str) -> None:
    torch.manual_seed(0)
    net = SMPModel(3, arch=arch, encoder_name=encoder).eval()
    image = torch.rand(1, 3, 40, 70)
    padded = torch.zeros(1, 3, 64, 96)
    padded[..., :40, :70] = image
    with torch.no_grad():
        assert_same(net(image), net.net(padded)[..., :40, :70])


@pytest.mark.parametrize("arch", ["Unet", "Segformer"])
def test_the_network_exports_with_its_padding(arch: str) -> None:
    net = small(arch)
    image = torch.randn(2, 3, 70, 96)
    exported = torch.export.export(net, (image,)).module()
    with torch.no_grad():
        assert_same(exported(image), net(image))


def test_the_network_is_the_librarys_with_the_same_tensors() -> None:
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=3, decoder_channels=[64, 32, 16, 8, 4]).eval()
    ours = SMPModel(3, encoder_name="resnet18", arguments={"decoder_channels": [64, 32, 16, 8, 4]}).eval()
    ours.net.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))


def test_a_file_of_the_librarys_network_fits_and_one_of_ours_stays_as_it_is() -> None:
    ours = small("FPN")
    tensors, statistics = ours.translate(WeightFile(ours.net.state_dict()))
    assert tensors.keys() == ours.state_dict().keys()
    assert statistics is None
    own = WeightFile(ours.state_dict())
    assert ours.translate(own) is own


def test_the_encoder_is_the_librarys_and_its_parameters_are_the_networks() -> None:
    net = small("Segformer")
    assert net.encoder is net.net.encoder
    names = [name for name, _ in net.named_parameters() if name.startswith("net.encoder.")]
    assert len(names) == len([*net.encoder.parameters()]) > 0


@pytest.mark.parametrize("arch", ["Unet", "Segformer"])
def test_gradients_reach_every_parameter(arch: str) -> None:
    net = small(arch).train()
    logits = net(torch.rand(2, 3, 64, 64))
    (logits * torch.randn_like(logits)).sum().backward()
    assert not without_gradient(net)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_other_channels(channels: int) -> None:
    net = small("FPN", in_channels=channels)
    assert (net.mean, net.std) == ((0.5,) * channels, (0.5,) * channels)
    assert net(torch.rand(1, channels, 33, 47)).shape == (1, 3, 33, 47)


def test_pretrained_weights_bring_the_statistics_of_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Network(torch.nn.Module):
        def __init__(self, **arguments: Any) -> None:
            super().__init__()
            asked.append(arguments["encoder_weights"])

    monkeypatch.setattr(smp, "FPN", Network)
    net = SMPModel(3, arch="FPN", encoder_name="tu-resnet18", weights="imagenet", in_channels=3)
    assert asked == [None, "imagenet"]
    assert net.mean == pytest.approx((0.485, 0.456, 0.406))
    assert net.std == pytest.approx((0.229, 0.224, 0.225))
    net = SMPModel(3, arch="FPN", encoder_name="tu-resnet18", weights="imagenet", in_channels=1)
    assert net.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


def test_an_unknown_architecture_is_refused_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"arch: the library has no 'UNet' \(accepts: DPT, .*Unet, UnetPlusPlus\)"):
        SMPModel(2, arch="UNet")


def test_an_unknown_encoder_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"arch: Unet on resnet19 cannot be built: .*resnet19"):
        SMPModel(2, encoder_name="resnet19")


def test_an_unknown_timm_encoder_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"arch: Unet on tu-nothing cannot be built: .*nothing"):
        SMPModel(2, encoder_name="tu-nothing")


def test_an_encoder_that_an_architecture_does_not_take_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="arch: DPT on resnet18 cannot be built: Only Timm encoders"):
        SMPModel(2, arch="DPT", encoder_name="resnet18")


def test_an_argument_that_an_architecture_does_not_take_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"arch: Unet on resnet18 cannot be built: .*decoder_channels"):
        SMPModel(2, encoder_name="resnet18", arguments={"decoder_channels": [8, 8]})


def test_unknown_weights_are_a_sentence_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"weights: resnet18 has no 'imagenot' \(accepts: imagenet, .*or null\)"):
        SMPModel(2, encoder_name="resnet18", weights="imagenot")


@pytest.mark.parametrize("where", ["get_preprocessing_params", "get_encoder"])
def test_weights_that_cannot_be_downloaded_are_a_sentence_with_the_way_out(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host\nand more")

    def network(*, encoder_weights: str | None, **_: Any) -> torch.nn.Module:
        return torch.nn.Identity() if encoder_weights is None else refuse()  # type: ignore[return-value]

    statistics = refuse if where == "get_preprocessing_params" else lambda *_: {"mean": [0.5] * 3, "std": [0.5] * 3}
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", statistics)
    monkeypatch.setattr(smp, "Unet", network)
    with pytest.raises(ValueError, match=r"imagenet of resnet18 .* \(OSError: no route to host\); give weights null"):
        SMPModel(2, encoder_name="resnet18", weights="imagenet")


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'segmentation-models-pytorch>=0\.5,<0\.7'"):
        SMPModel(2)
