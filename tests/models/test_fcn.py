"""Is FCN the paper's, in its skips and its bilinear kernels, and the dilated one torchvision's?"""

import math

import pytest
import torch
import torch.nn.functional as F
from every_model import assert_same, blobs, encoder_of, only_heads_train, recorded, shake, without_gradient
from torch import Tensor, nn
from torch.export import Dim
from torchvision.models.segmentation import fcn_resnet50

from segtrain.models import FCN, DilatedFCN
from segtrain.models.encoders import Encoder, ResNetEncoder, SwinEncoder, UNetEncoder, VGGEncoder
from segtrain.models.fcn import BilinearTransposed
from segtrain.models.torchvision_keys import translate
from segtrain.models.weights import WeightFile


def narrow_vgg() -> VGGEncoder:
    """Return VGG-11 with fc6 and fc7 of 16 channels, where the paper's have 4096: 100 M parameters less."""
    encoder = encoder_of("vgg11_bn", 32)
    encoder.fc6 = nn.Sequential(nn.Conv2d(512, 16, 7, padding=3), nn.ReLU(), nn.Dropout())
    encoder.fc7 = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Dropout())
    encoder.fc_as_conv = True
    encoder.taps = (*encoder.taps[:-1], encoder.taps[-1] + 2)
    encoder.channels = (*encoder.channels[:-1], 16)
    return encoder


@pytest.mark.parametrize("aux", [True, False])
def test_torchvisions_fcn_gives_the_same_logits_from_the_same_tensors(aux: bool) -> None:
    torch.manual_seed(0)
    theirs = shake(fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=aux))
    ours = DilatedFCN(5, aux=None if aux else {})
    ours.load_state_dict(translate(theirs.state_dict()), strict=True)
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = theirs(image)
        assert_same(ours.eval()(image), expected["out"])
        trained = only_heads_train(ours)(image)
    if aux:
        assert_same(trained, {"out": expected["out"], "stage4": expected["aux"]})
        assert ours.aux_weights == {"stage4": 0.5}  # torchvision's references/segmentation/train.py
    else:
        assert_same(trained, expected["out"])


def test_a_file_of_torchvisions_brings_imagenets_statistics_and_one_of_ours_stays_as_it_is() -> None:
    with torch.device("meta"):
        theirs = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
        net = DilatedFCN(21)
    tensors, statistics = net.translate(WeightFile(theirs.state_dict()))
    assert tensors.keys() == net.state_dict().keys()
    assert statistics == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    own = WeightFile(net.state_dict())
    assert net.translate(own) is own


def test_a_learned_up_sampling_exports_for_any_multiple_of_32() -> None:
    torch.manual_seed(0)
    net = FCN(3, encoder=UNetEncoder(base_channels=2, depth=6), learned_upsampling=True).eval()
    for scorer in (net.score, *net.skip_scores):
        nn.init.normal_(scorer.weight)
    h, w = (Dim(name, min=2, max=8) for name in "hw")
    shapes = ({2: 32 * h, 3: 32 * w},)
    exported = torch.export.export(net, (torch.randn(1, 3, 96, 128),), dynamic_shapes=shapes).module()
    image = torch.randn(1, 3, 64, 160)
    with torch.no_grad():
        assert_same(exported(image), net(image))


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_skips_are_added_as_in_the_papers_figure_3(stride: int, learned: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = FCN(3, encoder=narrow_vgg(), stride=stride, learned_upsampling=learned).eval()
    for parameter in net.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        actual = net(image)
        _, _, pool3, pool4, fc7 = net.encoder(image)
        assert [tensor.shape[2] for tensor in (pool3, pool4, fc7)] == [size[0] // 8, size[0] // 16, size[0] // 32]

        def double(x: Tensor, skip: Tensor, weight: Tensor) -> Tensor:  # and zeros where the encoder rounded down
            x = F.conv_transpose2d(x, weight, stride=2, padding=1)
            out = torch.zeros_like(skip)
            out[..., : x.shape[2], : x.shape[3]] = x
            return out + skip

        x = F.conv2d(fc7, net.score.weight, net.score.bias)
        if stride <= 16:
            x = double(x, net.skip_scores[0](pool4), net.doublings[0].weight)
        if stride == 8:
            x = double(x, net.skip_scores[1](pool3), net.doublings[1].weight)
        assert len(net.skip_scores) == {32: 0, 16: 1, 8: 2}[stride]
        if learned:
            x = F.conv_transpose2d(x, net.upsampling.weight, stride=stride, padding=stride // 2)
        # to the image's size from what is left of it where the encoder rounded down
        expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    assert_same(actual, expected)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("size", [(5, 5), (3, 7)])
def test_a_new_transposed_convolution_is_bilinear_interpolation_but_for_the_border(
    factor: int, size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        learned = BilinearTransposed(3, factor)(x)
    fixed = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert learned.shape == fixed.shape
    border = factor // 2  # there interpolation repeats the outermost values, and the transposed convolution sees zeros
    inside = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(learned[inside], fixed[inside], rtol=0, atol=1e-5)
    assert not torch.allclose(learned[..., :border, :], fixed[..., :border, :])


def test_the_bilinear_kernel_is_that_of_the_authors_code() -> None:
    def upsample_filter(size: int) -> Tensor:  # surgery.py of the authors' repository
        factor = (size + 1) // 2
        center = factor - 1 if size % 2 == 1 else factor - 0.5
        line = torch.tensor([1 - abs(i - center) / factor for i in range(size)])
        return line[:, None] * line[None]

    for factor in (2, 8, 32):
        weight = BilinearTransposed(2, factor).weight
        expected = torch.zeros(2, 2, 2 * factor, 2 * factor)
        expected[0, 0] = expected[1, 1] = upsample_filter(2 * factor)
        torch.testing.assert_close(weight.detach(), expected)


def test_the_fixed_last_up_sampling_is_the_learned_one_before_training_but_for_the_border() -> None:
    torch.manual_seed(0)
    fixed = FCN(3, encoder=narrow_vgg(), stride=8).eval()
    for scorer in (fixed.score, *fixed.skip_scores):
        nn.init.normal_(scorer.weight)
    learned = FCN(3, encoder=narrow_vgg(), stride=8, learned_upsampling=True).eval()
    assert learned.load_state_dict(fixed.state_dict(), strict=False).missing_keys == ["upsampling.weight"]
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert_same(learned(image)[..., 4:-4, 4:-4], fixed(image)[..., 4:-4, 4:-4])


def test_scores_begin_at_zero_so_that_a_new_network_has_no_opinion() -> None:
    logits = FCN(4, encoder=narrow_vgg()).eval()(torch.randn(1, 3, 64, 64))
    assert not logits.any()


def test_the_default_encoder_is_vgg_16_with_its_classifier_made_convolutional() -> None:
    with torch.device("meta"):
        net = FCN(21)
        assert (net.encoder.fc6[0].kernel_size, net.encoder.fc6[0].out_channels) == ((7, 7), 4096)
        assert (net.encoder.fc7[0].kernel_size, net.encoder.fc7[0].out_channels) == ((1, 1), 4096)
        assert net.encoder.strides == (2, 4, 8, 16, 32)
        assert [scorer.in_channels for scorer in (net.score, *net.skip_scores)] == [4096, 512, 256]


def test_after_one_step_gradients_reach_every_parameter_of_an_fcn() -> None:
    torch.manual_seed(0)
    net = FCN(3, encoder=narrow_vgg(), learned_upsampling=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    image, mask = blobs()
    for _ in range(2):  # scores that are zero pass nothing on at first
        optimizer.zero_grad()
        F.cross_entropy(net(image), mask).backward()
        optimizer.step()
    assert not without_gradient(net)


@pytest.mark.parametrize("stride", [4, 0, 64])
def test_another_stride_than_the_papers_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=rf"stride: {stride} is not one of 8, 16, 32"):
        FCN(2, encoder=narrow_vgg(), stride=stride)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_encoder_is_refused_and_the_dilated_fcn_named(output_stride: int) -> None:
    encoder = ResNetEncoder("resnet18", output_stride=output_stride)
    with pytest.raises(ValueError, match=rf"FCN needs output_stride 32, .* is {output_stride}; model=fcn"):
        FCN(2, encoder=encoder)


class DeepEncoder(Encoder):
    """One feature of stride 32."""

    channels, strides, mean, std = (3,), (32,), (0.5,) * 3, (0.5,) * 3

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[..., ::32, ::32]]


def test_an_encoder_without_the_strides_of_the_skips_serves_fcn_32s_alone() -> None:
    assert FCN(2, encoder=DeepEncoder(), stride=32).eval()(torch.rand(1, 3, 40, 64)).shape == (1, 2, 40, 64)
    with pytest.raises(ValueError, match=r"needs a feature of stride 16, and DeepEncoder has strides \(32,\)"):
        FCN(2, encoder=DeepEncoder(), stride=16)


@pytest.mark.parametrize(("wanted", "given"), [(8, 16), (16, 8), (32, 8)])
def test_the_dilated_fcn_refuses_an_encoder_of_another_output_stride(wanted: int, given: int) -> None:
    encoder = ResNetEncoder("resnet18", output_stride=given)
    with pytest.raises(ValueError, match=rf"{wanted} is wanted and the encoder has {given}.*output_stride {wanted}"):
        DilatedFCN(2, encoder=encoder, output_stride=wanted)


def test_the_dilated_fcn_reads_the_features_at_its_output_stride() -> None:
    for encoder, stride in ((ResNetEncoder("resnet18", output_stride=8), 8), (UNetEncoder(base_channels=2), 16)):
        net = DilatedFCN(2, encoder=encoder, output_stride=stride).eval()
        with recorded(net.classifier) as outputs, torch.no_grad():
            net(torch.rand(1, 3, 64, 65))
        assert outputs[0].shape[2:] == (64 // stride, math.ceil(65 / stride))


def test_the_dilated_fcn_takes_an_encoder_that_cannot_be_dilated() -> None:
    net = DilatedFCN(2, encoder=SwinEncoder("swin_t"), output_stride=32)
    logits = net(torch.rand(1, 3, 64, 64))
    assert {name: tensor.shape for name, tensor in logits.items()} == dict.fromkeys(("out", "stage3"), (1, 2, 64, 64))
