"""Is PSPNet's pooling torch's adaptive average pooling, and the network the paper's around it?"""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from every_model import assert_same, recorded, shake, without_gradient
from torch import Tensor, nn

from segtrain.models import PSPNet
from segtrain.models.encoders import MobileNetEncoder, ResNetEncoder, SwinEncoder
from segtrain.models.pspnet import PyramidPooling, pooling_matrix


def small(*, output_stride: int = 8, bins: Sequence[int] = (1, 2, 3, 6)) -> PSPNet:
    encoder = MobileNetEncoder("mobilenet_v3_small", output_stride=output_stride)
    return PSPNet(3, encoder=encoder, output_stride=output_stride, bins=bins, channels=16)


@pytest.mark.parametrize("bins", [1, 2, 3, 5, 6, 7])
def test_a_pooling_matrix_is_adaptive_average_pooling_along_a_side(bins: int) -> None:
    for size in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 60, 97):
        eye = torch.eye(size)[None]  # each row a unit vector: pooling them gives the matrix's columns
        expected = F.adaptive_avg_pool1d(eye, bins)[0].T
        torch.testing.assert_close(pooling_matrix(size, (bins,), like=eye), expected)


@pytest.mark.parametrize("size", [(12, 12), (8, 13), (5, 7), (1, 1), (2, 60), (3, 6)])
@pytest.mark.parametrize("bins", [(1, 2, 3, 6), (1,), (4, 2), (1, 2, 4, 8)])
def test_two_matrix_products_are_adaptive_average_pooling(size: tuple[int, int], bins: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    rows, columns = (pooling_matrix(side, bins, like=x) for side in size)
    pooled = rows @ x @ columns.T
    start = 0
    for n in bins:
        cells = pooled[..., start : start + n, start : start + n]
        torch.testing.assert_close(cells, F.adaptive_avg_pool2d(x, n), rtol=1e-5, atol=1e-6)
        start += n


class ReferencePyramid(nn.Module):
    """The module as PSPNet's authors write it: pool, 1x1 convolution, norm, ReLU, resize, concatenate."""

    def __init__(self, channels: int, bins: Sequence[int]) -> None:
        super().__init__()
        share = channels // len(bins)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(n), nn.Conv2d(channels, share, 1, bias=False), nn.BatchNorm2d(share), nn.ReLU()
            )
            for n in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        sizes = x.shape[2:]
        context = [F.interpolate(level(x), size=sizes, mode="bilinear", align_corners=False) for level in self.levels]
        return torch.cat([x, *context], dim=1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(12, 12), (8, 13), (60, 60), (4, 5), (1, 2)])
@pytest.mark.parametrize("bins", [(1, 2, 3, 6), (1, 4)])
def test_the_pyramid_is_that_of_adaptive_pooling_in_value_and_gradient(
    training: bool, size: tuple[int, int], bins: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    theirs = shake(ReferencePyramid(16, bins)).train(training)
    ours = PyramidPooling(16, bins=bins).train(training)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(3, 16, *size)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    actual, expected = ours(a), theirs(b)
    assert actual.shape[1] == ours.out_channels == 32
    assert_same(actual, expected)
    weight = torch.randn_like(expected)
    (actual * weight).sum().backward()
    (expected * weight).sum().backward()
    assert_same(a.grad, b.grad, 1e-4)
    for name, tensor in zip(ours.state_dict(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_the_default_is_the_papers_with_a_resnet_50_of_output_stride_8() -> None:
    with torch.device("meta"):
        net = PSPNet(150)
    assert net.encoder.strides == (2, 4, 8, 8, 8)
    assert [level[0].out_channels for level in net.pyramid.levels] == [512] * 4
    assert net.pyramid.bins == (1, 2, 3, 6)
    assert net.classifier[0][0].in_channels == 4096
    assert net.classifier[0][0].kernel_size == (3, 3)
    assert net.classifier[2].in_channels == 512
    assert net.aux_weights == {"stage4": 0.4}  # section 3.3
    assert net.auxiliary.heads["stage4"][0].in_channels == 1024


def test_the_smallest_image_is_one_pixel_a_bin() -> None:
    assert small().min_size == 48
    assert small(output_stride=16).min_size == 96
    assert small(bins=(1, 4)).min_size == 32


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_pyramid_sees_the_output_stride(output_stride: int) -> None:
    net = small(output_stride=output_stride).eval()
    with recorded(net.pyramid) as outputs, torch.no_grad():
        assert net(torch.rand(1, 3, 96, 64)).shape == (1, 3, 96, 64)
    assert outputs[0].shape[2:] == (96 // output_stride, 64 // output_stride)


def test_a_single_odd_image_smaller_than_the_bins_trains_and_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    net = small()
    logits = net(torch.rand(1, 3, 33, 47))
    assert {name: tensor.shape for name, tensor in logits.items()} == dict.fromkeys(("out", "stage4"), (1, 3, 33, 47))
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in logits.values()).backward()
    assert not without_gradient(net)


def test_the_context_of_the_whole_image_reaches_every_pixel() -> None:
    torch.manual_seed(0)
    pyramid = PyramidPooling(4, bins=(1,)).eval()
    x = torch.rand(1, 4, 9, 9)
    changed = x.clone()
    changed[..., 0, 0] += 10
    assert (pyramid(changed)[:, 4:] != pyramid(x)[:, 4:]).any(dim=1).all()


@pytest.mark.parametrize(("wanted", "given"), [(8, 16), (16, 32), (32, 8)])
def test_an_encoder_of_another_output_stride_is_refused_with_the_remedy(wanted: int, given: int) -> None:
    encoder = ResNetEncoder("resnet18", output_stride=given)
    with pytest.raises(ValueError, match=rf"{wanted} is wanted and the encoder has {given}.*output_stride {wanted}"):
        PSPNet(2, encoder=encoder, output_stride=wanted)


def test_an_encoder_that_cannot_be_dilated_serves_at_32() -> None:
    net = PSPNet(2, encoder=SwinEncoder("swin_t"), output_stride=32, channels=8).eval()
    assert net(torch.rand(1, 3, 33, 64)).shape == (1, 2, 33, 64)
