"""Are there auxiliary logits in training alone, of the features that were named and of the image's size?"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_model import LIGHT, MODELS, PAIRS, assert_same, build, only_heads_train, recorded, without_gradient
from torch import nn

from segtrain.models import DilatedFCN, PSPNet, SegNet, UNet
from segtrain.models.auxiliary import AuxiliaryHeads
from segtrain.models.encoders import SegNetBasicEncoder, UNetEncoder

STAGES = {"fcn": 5, "dilated_fcn": 4, "unet": 6, "segnet": 4, "pspnet": 5, "deeplabv3": 5, "deeplabv3plus": 5}
DECODERS = {"unet": 5, "segnet": 4}


def heads(aux: dict[str, float | None] | None) -> AuxiliaryHeads:
    return AuxiliaryHeads(aux, channels={"stage1": 8, "stage2": 16}, num_classes=3)


def test_the_head_is_torchvisions_fcn_head_on_the_feature_resized_to_the_logits() -> None:
    torch.manual_seed(0)
    part = heads({"stage2": 0.4})
    logits, feature = torch.randn(2, 3, 32, 40), torch.randn(2, 16, 8, 10)
    outputs = only_heads_train(part)(logits, {"stage2": feature})
    conv, norm, *_, last = part.heads["stage2"]
    assert (conv.out_channels, last.kernel_size) == (4, (1, 1))  # a quarter of the channels
    x = F.conv2d(feature, conv.weight, padding=1)
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    x = F.interpolate(F.conv2d(x, last.weight, last.bias), size=(32, 40), mode="bilinear", align_corners=False)
    assert outputs["out"] is logits
    assert_same(outputs["stage2"], x)


@pytest.mark.parametrize("aux", [None, {}, {"stage2": None}])
def test_without_weights_there_are_no_heads_and_training_returns_a_tensor(aux: dict[str, float | None] | None) -> None:
    part = heads(aux)
    logits = torch.randn(2, 3, 32, 40)
    assert part.train()(logits, {}) is logits
    assert not [*part.parameters()]
    assert part.weights == {}


def test_a_weight_of_none_leaves_its_feature_out() -> None:
    assert heads({"stage1": None, "stage2": 0.1}).weights == {"stage2": 0.1}


def test_a_weight_of_zero_is_a_weight() -> None:
    assert [*heads({"stage1": 0.0}).heads] == ["stage1"]


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aux: the weight of stage2 is -0\.4; give 0 or more"):
        heads({"stage1": 0.4, "stage2": -0.4})


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_an_unknown_feature_is_refused_with_the_names_of_the_known(model: str, encoder: str) -> None:
    names = [f"stage{n}" for n in range(1, STAGES[model] + 1)]
    names += [f"decoder{n}" for n in range(1, DECODERS.get(model, 0) + 1)]
    with pytest.raises(ValueError, match=rf"aux: .*no feature called 'layer4' \(accepts: {', '.join(names)}\)$"):
        build(model, encoder, aux={"layer4": 0.4})


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_every_feature_can_have_a_head_whose_logits_have_the_images_size(model: str, encoder: str) -> None:
    aux = {f"stage{n}": n / 10 for n in range(1, STAGES[model] + 1)}
    aux |= {f"decoder{n}": n / 20 for n in range(1, DECODERS.get(model, 0) + 1)}
    net = build(model, encoder, aux=aux)
    assert net.aux_weights == aux
    outputs = net.train()(torch.randn(2, 3, 65, 97))
    assert {name: tensor.shape for name, tensor in outputs.items()} == dict.fromkeys(("out", *aux), (2, 3, 65, 97))
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in outputs.values()).backward()
    assert not without_gradient(net)
    for image in (torch.randn(2, 3, 64, 64), torch.randn(1, 3, 65, 97)):
        assert net.eval()(image).shape == (len(image), 3, *image.shape[2:])


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_the_stages_are_the_encoders_features(model: str, encoder: str) -> None:
    net = build(model, encoder, aux={"stage1": 1.0, "stage3": 1.0})
    image = torch.randn(1, 3, 64, 64)
    only_heads_train(net)
    with torch.no_grad():
        outputs, features = net(image), net.encoder(image)
        for number in (1, 3):
            head = net.auxiliary.heads[f"stage{number}"]
            expected = F.interpolate(head(features[number - 1]), size=(64, 64), mode="bilinear", align_corners=False)
            assert_same(outputs[f"stage{number}"], expected)


@pytest.mark.parametrize("make", [
    lambda aux: UNet(3, encoder=UNetEncoder(base_channels=4, depth=4), aux=aux),
    lambda aux: SegNet(3, encoder=SegNetBasicEncoder(base_channels=4, depth=3), aux=aux),
])  # fmt: skip
def test_deep_supervision_reads_the_decoders_stages_coarsest_first(make: Any) -> None:
    torch.manual_seed(0)
    net = make({"decoder1": 1.0, "decoder2": 0.5, "decoder3": 0.2})
    only_heads_train(net)
    with recorded(*net.decoder) as stages, torch.no_grad():
        outputs = net(torch.randn(1, 3, 64, 64))
    assert [stage.shape[2] for stage in stages] == [16, 32, 64]
    for number, stage in enumerate(stages, start=1):
        expected = F.interpolate(
            net.auxiliary.heads[f"decoder{number}"](stage), size=(64, 64), mode="bilinear", align_corners=False
        )
        assert_same(outputs[f"decoder{number}"], expected)


def test_the_defaults_are_torchvisions_for_the_dilated_fcn_the_papers_for_pspnet_and_none_elsewhere() -> None:
    with torch.device("meta"):
        assert DilatedFCN(2).aux_weights == {"stage4": 0.5}
        assert PSPNet(2).aux_weights == {"stage4": 0.4}
        assert DilatedFCN(2, aux={}).aux_weights == PSPNet(2, aux={}).aux_weights == {}
    for model in MODELS.keys() - {"dilated_fcn", "pspnet"}:
        assert build(model, LIGHT[model]).aux_weights == {}


def test_heads_do_not_change_the_logits() -> None:
    plain, supervised = build("pspnet", "resnet18", aux={}), build("pspnet", "resnet18")
    supervised.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(only_heads_train(supervised)(image)["out"], plain(image))
    assert isinstance(supervised.auxiliary.heads["stage4"], nn.Sequential)
