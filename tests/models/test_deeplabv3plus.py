"""Is DeepLabv3+ the paper's: strides, rates, pyramid, decoder; and what of it is segmentation_models_pytorch's?"""

from collections.abc import Sequence
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from every_model import assert_same, recorded, shake, without_gradient
from torch import Tensor, nn

from segtrain.models import DeepLabV3Plus
from segtrain.models.encoders import Encoder, MobileNetEncoder, ResNetEncoder, SwinEncoder, UNetEncoder


def network(*, output_stride: int = 16, name: str = "resnet18", **options: bool | Sequence[int] | None) -> Any:
    family = ResNetEncoder if name.startswith("resnet") else MobileNetEncoder
    encoder = family(name, output_stride=output_stride)
    return DeepLabV3Plus(3, encoder=encoder, output_stride=output_stride, channels=16, skip_channels=8, **options)  # type: ignore[arg-type]


def copy_layers(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """Copy tensors in the order of the layers, whatever their names."""
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    return ours.eval()


@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_encoder_is_segmentation_models_pytorchs_but_for_the_first_convolutions_of_dilated_stages(
    output_stride: int,
) -> None:
    torch.manual_seed(0)
    net = smp.DeepLabV3Plus("resnet34", encoder_weights=None, encoder_output_stride=output_stride)
    theirs = shake(net.encoder)
    ours = ResNetEncoder("resnet34", output_stride=output_stride).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.randn(1, 3, 65, 97)
    kept = {8: 3, 16: 4}[output_stride]  # features before dilation
    with torch.no_grad():
        _, *expected = theirs(image)
        for actual, wanted in zip(ours(image)[:kept], expected[:kept], strict=True):
            assert_same(actual, wanted)
        assert not torch.allclose(ours(image)[-1], expected[-1])
        # there every convolution of a dilated stage is, where torchvision's first ones keep the dilation before
        for layer, dilation in {8: ((ours.layer3, 2), (ours.layer4, 4)), 16: ((ours.layer4, 2),)}[output_stride]:
            layer[0].conv1.dilation = layer[0].conv1.padding = (dilation, dilation)
        assert_same(ours(image)[-1], expected[-1])


@pytest.mark.parametrize("separable", [True, False])
def test_the_pyramids_plain_branches_and_the_skip_are_segmentation_models_pytorchs(separable: bool) -> None:
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus(
        "resnet18", encoder_weights=None, decoder_aspp_separable=separable, decoder_atrous_rates=(6, 12, 18)
    ).decoder
    shake(theirs)
    encoder = ResNetEncoder("resnet18", output_stride=16)
    ours = DeepLabV3Plus(2, encoder=encoder, separable=separable)
    deep, fine = torch.randn(2, 512, 6, 7), torch.randn(2, 64, 24, 28)
    aspp = theirs.aspp[0]
    with torch.no_grad():
        for index in (0, 4) if separable else range(5):
            branch = copy_layers(ours.pyramid.branches[index], aspp.convs[index])
            assert_same(branch(deep), aspp.convs[index](deep))
        if not separable:
            copy_layers(ours.pyramid.project, aspp.project)
            assert_same(ours.pyramid.eval()(deep), aspp(deep))
        assert_same(copy_layers(ours.skip, theirs.block1)(fine), theirs.block1(fine))
    assert ours.skip[0].out_channels == 48


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_the_decoder_is_the_papers_figure_2(separable: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = shake(network(separable=separable))
    image = torch.randn(2, 3, *size)

    def block(x: Tensor, layers: nn.Sequential, kernel: int) -> Tensor:
        for conv, norm in zip(layers[0::3], layers[1::3], strict=True):
            side = conv.kernel_size[0]
            assert side in (kernel, 1)
            x = F.conv2d(x, conv.weight, padding=side // 2, groups=conv.groups)
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
        return x

    with torch.no_grad():
        features = net.encoder(image)
        fine = features[1]  # Conv2, stride 4
        assert fine.shape[2] == -(-size[0] // 4)
        context = F.interpolate(net.pyramid(features[-1]), size=fine.shape[2:], mode="bilinear", align_corners=False)
        x = torch.cat([context, block(fine, net.skip, 1)], dim=1)
        for layers in net.decoder:
            assert len(layers) == (6 if separable else 3)
            x = block(x, layers, 3)
        x = F.conv2d(x, net.classifier.weight, net.classifier.bias)
        expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        assert_same(net(image), expected)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_the_pyramid_sees_the_output_stride_and_the_decoder_stride_four(output_stride: int, name: str) -> None:
    net = network(output_stride=output_stride, name=name).eval()
    with recorded(net.skip, net.pyramid, net.decoder) as outputs, torch.no_grad():
        assert net(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)
    deep = (64 // output_stride, 96 // output_stride)
    assert [tuple(output.shape[2:]) for output in outputs] == [(16, 24), deep, (16, 24)]


@pytest.mark.parametrize(
    ("output_stride", "chosen", "rates"),
    [(32, None, [3, 6, 9]), (16, None, [6, 12, 18]), (8, None, [12, 24, 36]), (16, [2, 5], [2, 5])],
)
@pytest.mark.parametrize("separable", [True, False])
def test_atrous_rates_are_the_papers_unless_chosen(
    output_stride: int, chosen: list[int] | None, rates: list[int], separable: bool
) -> None:
    net = network(output_stride=output_stride, atrous_rates=chosen, separable=separable)
    convolutions = [m for m in net.pyramid.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [conv.dilation for conv in convolutions] == [(rate, rate) for rate in rates]
    assert all((conv.groups == conv.in_channels) == separable for conv in convolutions)
    assert len(net.pyramid.branches) == len(rates) + 2  # a 1x1 branch and the pooled image


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "mobilenet_v2"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_odd_image_trains_in_a_batch_of_any_size_and_every_parameter_gets_a_gradient(
    name: str, batch_size: int
) -> None:
    torch.manual_seed(0)
    net = network(name=name)
    logits = net(torch.rand(batch_size, 3, 97, 131))
    assert logits.shape == (batch_size, 3, 97, 131)
    (logits * torch.randn_like(logits)).sum().backward()
    assert not without_gradient(net)


@pytest.mark.parametrize("size", [(1, 1), (33, 64), (40, 130)])
def test_the_logits_have_the_size_of_an_image_of_any_size(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network().eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_the_default_is_a_resnet_50_with_256_channels_and_a_skip_of_48() -> None:
    with torch.device("meta"):
        net = DeepLabV3Plus(19)
    assert net.encoder.channels[-1] == 2048
    assert net.encoder.strides[-1] == 16
    assert net.classifier.in_channels == 256
    assert net.skip[0].out_channels == 48
    assert net.decoder[0][0].in_channels == 256 + 48
    assert net.skip[0].in_channels == 256  # Conv2 of the paper: the last feature of stride 4


@pytest.mark.parametrize(("wanted", "given"), [(16, 32), (16, 8), (8, 16)])
def test_an_encoder_of_another_output_stride_is_refused_with_the_remedy(wanted: int, given: int) -> None:
    with pytest.raises(ValueError, match=f"{wanted} is wanted and the encoder has {given}.*output_stride {wanted}"):
        DeepLabV3Plus(2, encoder=ResNetEncoder("resnet18", output_stride=given), output_stride=wanted)


@pytest.mark.parametrize("stride", [4, 64, 0])
def test_an_output_stride_that_no_network_has_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"output_stride: {stride} is not one of 8, 16, 32"):
        DeepLabV3Plus(2, encoder=UNetEncoder(base_channels=2), output_stride=stride)


def test_an_encoder_that_cannot_be_dilated_serves_at_32() -> None:
    net = DeepLabV3Plus(2, encoder=SwinEncoder("swin_t"), output_stride=32, channels=8).eval()
    assert net(torch.rand(1, 3, 33, 64)).shape == (1, 2, 33, 64)


class CoarseEncoder(Encoder):
    """One feature of stride 16."""

    channels, strides, mean, std = (4,), (16,), (0.5,) * 3, (0.5,) * 3

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[:, :1, ::16, ::16].expand(-1, 4, -1, -1)]


def test_an_encoder_without_a_feature_at_stride_four_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a feature of stride 4, and CoarseEncoder has strides \(16,\)"):
        DeepLabV3Plus(2, encoder=CoarseEncoder())
