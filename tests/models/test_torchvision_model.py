"""Are torchvision's segmentation networks themselves, with other classes and channels, and are mistakes sentences?"""

import logging
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from every_model import assert_same, only_heads_train, shake, without_gradient
from torchvision.models import get_model
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, fcn_resnet50, lraspp_mobilenet_v3_large

from segtrain.models import DilatedFCN, TorchvisionModel
from segtrain.models.torchvision import NAMES
from segtrain.models.torchvision_keys import is_torchvisions
from segtrain.models.weights import WeightFile

MOBILE = "deeplabv3_mobilenet_v3_large"
LRASPP = "lraspp_mobilenet_v3_large"
AUX = {name: {} if name == LRASPP else {"aux_loss": True} for name in NAMES}


def theirs(name: str, num_classes: int = 3) -> Any:
    torch.manual_seed(0)
    return shake(get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **AUX[name]))


def test_the_names_are_torchvisions() -> None:
    assert set(NAMES) == {
        *("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"),
        *(MOBILE, LRASPP),
    }


@pytest.mark.parametrize("name", [name for name in NAMES if "resnet101" in name])
def test_the_deeper_networks_have_torchvisions_tensors(name: str) -> None:
    with torch.device("meta"):
        net = get_model(name, weights_backbone=None, num_classes=3, aux_loss=True)
        ours = TorchvisionModel(3, name=name)
    wanted = {key.replace("backbone.", "encoder.", 1): tensor.shape for key, tensor in net.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == wanted
    with torch.device("meta"):
        assert ours.eval()(torch.zeros(1, 3, 33, 47)).shape == (1, 3, 33, 47)


@pytest.mark.parametrize("name", [name for name in NAMES if "resnet101" not in name])
def test_the_logits_are_torchvisions_with_the_same_tensors(name: str) -> None:
    net = theirs(name)
    ours = TorchvisionModel(3, name=name)
    tensors = {key.replace("backbone.", "encoder.", 1): tensor for key, tensor in net.state_dict().items()}
    ours.load_state_dict(tensors, strict=True)
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = net(image)
        assert_same(ours.eval()(image), expected["out"])
        trained = only_heads_train(ours)(image)
    if name == LRASPP:
        assert_same(trained, expected["out"])
        assert ours.aux_weights == {}
    else:
        assert_same(trained, dict(expected))
        assert ours.aux_weights == {"aux": 0.5}


def test_without_an_auxiliary_weight_there_is_no_auxiliary_head() -> None:
    net = TorchvisionModel(3, name=MOBILE, aux=None)
    assert net.aux_classifier is None
    assert net.aux_weights == {}
    assert net.train()(torch.randn(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = TorchvisionModel(3, name=MOBILE)
    outputs = net.train()(torch.randn(2, 3, 65, 97))
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in outputs.values()).backward()
    assert not without_gradient(net)


@pytest.mark.parametrize("name", ["fcn_resnet50", LRASPP])
def test_the_network_exports(name: str) -> None:
    torch.manual_seed(0)
    net = shake(TorchvisionModel(3, name=name))
    image = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(net, (image,)).module()
    with torch.no_grad():
        assert_same(exported(image), net(image))


@pytest.mark.parametrize("name", [MOBILE, LRASPP])
def test_a_file_of_21_classes_fills_a_network_of_5_but_for_the_last_layers_and_says_so(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = theirs(name, 21)
    torch.save(source.state_dict(), tmp_path / "voc.pth")
    with caplog.at_level(logging.INFO, logger="segtrain"):
        net = TorchvisionModel(5, name=name, weights=str(tmp_path / "voc.pth"))
    tensors = {key.replace("backbone.", "encoder.", 1): tensor for key, tensor in source.state_dict().items()}
    new = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, tensors[key])}
    lasts = ("classifier.low_classifier", "classifier.high_classifier")
    lasts = lasts if name == LRASPP else ("aux_classifier.4", "classifier.4")
    assert new == {f"{last}.{kind}" for last in lasts for kind in ("weight", "bias")}
    (sentence,) = [record.getMessage() for record in caplog.records if "voc.pth" in record.getMessage()]
    total = len(tensors)
    assert f"{total - 4} of {total} tensors; new, as the file has another shape: {', '.join(sorted(new))}" in sentence
    assert net.eval()(torch.randn(1, 3, 33, 47)).shape == (1, 5, 33, 47)


def test_a_grey_image_in_one_channel_gives_the_logits_of_three_equal_channels(tmp_path: Path) -> None:
    source = theirs(MOBILE)
    torch.save(source.state_dict(), tmp_path / "rgb.pth")
    net = TorchvisionModel(3, name=MOBILE, weights=str(tmp_path / "rgb.pth"), in_channels=1).eval()
    assert len(net.mean) == len(net.std) == 1
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert_same(net(image), source(image.expand(-1, 3, -1, -1))["out"], 1e-4)


@pytest.mark.parametrize("name", [MOBILE, LRASPP])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_without_weights_takes_any_number_of_channels(name: str, channels: int) -> None:
    net = TorchvisionModel(3, name=name, in_channels=channels)
    assert (net.mean, net.std) == ((0.5,) * channels, (0.5,) * channels)
    assert net.eval()(torch.randn(1, channels, 33, 47)).shape == (1, 3, 33, 47)


def test_an_unknown_name_is_refused_with_the_known() -> None:
    with pytest.raises(ValueError, match=rf"name: .* no segmentation network 'resnet50' \(accepts: .*{LRASPP}.*\)"):
        TorchvisionModel(2, name="resnet50")


def test_unknown_weights_are_refused_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"weights: .* has no 'imagenet' \(accepts: COCO_WITH_VOC_LABELS_V1, a file"):
        TorchvisionModel(2, name=MOBILE, weights="imagenet")


@pytest.mark.parametrize("error", [URLError("no route to host"), ConnectionResetError("reset"), TimeoutError("slow")])
def test_weights_that_cannot_be_downloaded_are_a_sentence_with_the_way_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ValueError, match=r"COCO_WITH_VOC_LABELS_V1 of .* cannot be downloaded .* give weights null"):
        TorchvisionModel(2, name=MOBILE, weights="COCO_WITH_VOC_LABELS_V1")


def test_published_weights_are_loaded_under_our_names_with_imagenets_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = theirs(LRASPP, 21)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: source.state_dict())
    net = TorchvisionModel(21, name=LRASPP, weights="COCO_WITH_VOC_LABELS_V1").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_same(net(image), source(image)["out"])
    assert net.mean == (0.485, 0.456, 0.406)


def test_a_file_of_ours_stays_as_it_is_and_torchvisions_brings_imagenets_statistics() -> None:
    with torch.device("meta"):
        net = TorchvisionModel(21, name=LRASPP)
        source = lraspp_mobilenet_v3_large(weights_backbone=None)
    own = WeightFile(net.state_dict())
    assert net.translate(own) is own
    tensors, statistics = net.translate(WeightFile(source.state_dict()))
    assert tensors.keys() == net.state_dict().keys()
    assert statistics == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_file_that_does_not_exist_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"weights: .*nowhere\.pth is not a file"):
        TorchvisionModel(2, name=MOBILE, weights="/nowhere.pth")


def test_torchvisions_files_are_told_from_others() -> None:
    with torch.device("meta"):
        assert is_torchvisions(fcn_resnet50(weights_backbone=None).state_dict())
        assert is_torchvisions(deeplabv3_mobilenet_v3_large(weights_backbone=None).state_dict())
        assert not is_torchvisions(lraspp_mobilenet_v3_large(weights_backbone=None).state_dict())
        assert not is_torchvisions(DilatedFCN(2).state_dict())
