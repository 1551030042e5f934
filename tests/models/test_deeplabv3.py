"""Is DeepLabv3 the paper's, and with torchvision's settings torchvision's?"""

from collections.abc import Sequence

import pytest
import torch
from every_model import assert_same, only_heads_train, recorded, shake, without_gradient
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, deeplabv3_resnet50
from torchvision.models.segmentation.deeplabv3 import ASPP

from segtrain.models import DeepLabV3
from segtrain.models.deeplabv3 import AtrousConv2d, AtrousPyramid, PooledImage
from segtrain.models.encoders import MobileNetEncoder, ResNetEncoder, SwinEncoder, UNetEncoder
from segtrain.models.torchvision_keys import translate


def small(*, output_stride: int = 16, atrous_rates: Sequence[int] | None = None) -> DeepLabV3:
    encoder = ResNetEncoder("resnet18", output_stride=output_stride)
    return DeepLabV3(3, encoder=encoder, output_stride=output_stride, atrous_rates=atrous_rates, channels=16)


def torchvisions_settings(encoder: nn.Module, output_stride: int, *, aux: bool) -> DeepLabV3:
    return DeepLabV3(
        5,
        encoder=encoder,  # type: ignore[arg-type]
        output_stride=output_stride,
        atrous_rates=(12, 24, 36),
        head_conv=True,
        aux={"stage4": 0.5} if aux else None,
    )


@pytest.mark.parametrize("aux", [True, False])
def test_torchvisions_deeplabv3_gives_the_same_logits_from_the_same_tensors(aux: bool) -> None:
    torch.manual_seed(0)
    theirs = shake(deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=aux))
    ours = torchvisions_settings(ResNetEncoder("resnet50", output_stride=8), 8, aux=aux)
    ours.load_state_dict(translate(theirs.state_dict()), strict=True)
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = theirs(image)
        assert_same(ours.eval()(image), expected["out"])
        trained = only_heads_train(ours)(image)
    assert_same(trained, {"out": expected["out"], "stage4": expected["aux"]} if aux else expected["out"])


@pytest.mark.parametrize("aux", [True, False])
def test_torchvisions_deeplabv3_on_mobilenet_gives_the_same_logits_and_only_its_auxiliary_head_is_left(
    aux: bool,
) -> None:
    torch.manual_seed(0)
    theirs = shake(deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5, aux_loss=aux))
    ours = torchvisions_settings(MobileNetEncoder("mobilenet_v3_large", output_stride=16), 16, aux=False)
    left = ours.load_state_dict(translate(theirs.state_dict()), strict=False)
    assert not left.missing_keys
    assert {name.rpartition(".")[0] for name in left.unexpected_keys} == (
        {f"auxiliary.heads.stage4.{layer}" for layer in (0, 1, 4)} if aux else set()
    )
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        assert_same(ours.eval()(image), theirs(image)["out"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rates", [(6, 12, 18), (2, 3)])
def test_the_pyramid_is_torchvisions_aspp(training: bool, rates: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = AtrousPyramid(12, 16, rates=rates, dropout=0.5)
    theirs = shake(ASPP(12, list(rates), out_channels=16))
    values = theirs.state_dict().values()  # in the order of the layers, under other names
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(2, 12, 9, 7)
    torch.manual_seed(1)  # of dropout
    expected = theirs.train(training)(x)
    torch.manual_seed(1)
    assert_same(ours.train(training)(x), expected)
    for name, tensor in zip(ours.state_dict(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(ours.state_dict()[name], tensor)  # running statistics too


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (6, 6), (7, 40), (13, 4)])
@pytest.mark.parametrize("rate", [1, 6, 12, 36])
@pytest.mark.parametrize("groups", [1, 4])
def test_leaving_out_the_taps_that_see_padding_alone_changes_nothing(
    size: tuple[int, int], rate: int, groups: int
) -> None:
    torch.manual_seed(0)
    ours = AtrousConv2d(4, 8, 3, padding=rate, dilation=rate, groups=groups, bias=False)
    theirs = nn.Conv2d(4, 8, 3, padding=rate, dilation=rate, groups=groups, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, *size)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    actual, expected = ours(a), theirs(b)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(expected)
    (actual * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rates", [(), (6, 0), (-1,)])
def test_rates_that_are_no_dilations_are_refused(rates: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"atrous_rates: \[.*\] are not dilations of 1 or more; null gives the paper's"
    ):
        small(atrous_rates=rates)


@pytest.mark.parametrize(
    ("output_stride", "chosen", "rates"),
    [(32, None, [3, 6, 9]), (16, None, [6, 12, 18]), (8, None, [12, 24, 36]), (16, [2, 5], [2, 5])],
)
def test_atrous_rates_are_the_papers_unless_chosen(
    output_stride: int, chosen: list[int] | None, rates: list[int]
) -> None:
    net = small(output_stride=output_stride, atrous_rates=chosen).eval()
    dilations = [m.dilation for m in net.pyramid.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert dilations == [(rate, rate) for rate in rates]
    with recorded(net.pyramid) as outputs, torch.no_grad():
        net(torch.rand(1, 3, 64, 96))
    assert outputs[0].shape == (1, 16, 64 // output_stride, 96 // output_stride)


@pytest.mark.parametrize(("output_stride", "rates"), [(16, [2, 4, 8]), (8, [4, 8, 16]), (32, [1, 1, 1])])
def test_the_default_is_a_resnet_50_with_multi_grid_1_2_4(output_stride: int, rates: list[int]) -> None:
    with torch.device("meta"):
        net = DeepLabV3(19, output_stride=output_stride)
    assert [block.conv2.dilation for block in net.encoder.layer4] == [(rate, rate) for rate in rates]
    assert net.encoder.channels[-1] == 2048
    assert net.encoder.strides[-1] == output_stride
    assert net.pyramid.branches[0][0].out_channels == net.classifier.in_channels == 256


def test_a_single_image_is_pooled_by_the_running_statistics_and_leaves_them() -> None:
    torch.manual_seed(0)
    pooled = PooledImage(3, 4)
    shake(pooled)
    before = {name: tensor.clone() for name, tensor in pooled.state_dict().items()}
    x = torch.randn(1, 3, 6, 5)
    expected = pooled.eval()(x)
    torch.testing.assert_close(pooled.train()(x), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pooled.state_dict().items())


@pytest.mark.parametrize("head_conv", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_odd_image_trains_in_a_batch_of_any_size_and_every_parameter_gets_a_gradient(
    head_conv: bool, batch_size: int
) -> None:
    torch.manual_seed(0)
    encoder = MobileNetEncoder("mobilenet_v3_small", output_stride=16)
    net = DeepLabV3(3, encoder=encoder, channels=16, head_conv=head_conv, aux={"stage4": 0.4})
    logits = net(torch.rand(batch_size, 3, 97, 131))
    assert {name: tensor.shape for name, tensor in logits.items()} == dict.fromkeys(
        ("out", "stage4"), (batch_size, 3, 97, 131)
    )
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in logits.values()).backward()
    assert not without_gradient(net)


@pytest.mark.parametrize(("wanted", "given"), [(16, 32), (16, 8), (8, 16)])
def test_an_encoder_of_another_output_stride_is_refused_with_the_remedy(wanted: int, given: int) -> None:
    with pytest.raises(ValueError, match=rf"{wanted} is wanted and the encoder has {given}.*output_stride {wanted}"):
        DeepLabV3(2, encoder=ResNetEncoder("resnet18", output_stride=given), output_stride=wanted)


@pytest.mark.parametrize("stride", [4, 64, 0])
def test_an_output_stride_that_no_network_has_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=rf"output_stride: {stride} is not one of 8, 16, 32"):
        DeepLabV3(2, encoder=UNetEncoder(base_channels=2), output_stride=stride)


def test_an_encoder_that_cannot_be_dilated_serves_at_32() -> None:
    with pytest.raises(ValueError, match="give the encoder output_stride 16"):
        DeepLabV3(2, encoder=SwinEncoder("swin_t"))
    net = DeepLabV3(2, encoder=SwinEncoder("swin_t"), output_stride=32, channels=8).eval()
    assert net(torch.rand(1, 3, 33, 64)).shape == (1, 2, 33, 64)


def test_dropout_is_one_and_before_the_classifier() -> None:
    net = DeepLabV3(2, encoder=UNetEncoder(base_channels=2, dropout=0), channels=8, dropout=0.9)
    dropouts = [
        module for part in (net.pyramid, net.head) for module in part.modules() if isinstance(module, nn.Dropout)
    ]
    assert [module.p for module in dropouts] == [0.9]
    with recorded(net.pyramid) as outputs:
        net(torch.rand(2, 3, 64, 64))
    zeros: Tensor = (outputs[0] == 0).float().mean()
    assert zeros > 0.85
