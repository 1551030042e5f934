"""Is the U-Net the paper's on its own encoder, segmentation_models_pytorch's on others, and exact at odd sizes?"""

import copy
import functools
import itertools

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from every_model import assert_same, recorded, rename, shake, without_gradient
from torch import Tensor, nn

from segtrain.models import UNet
from segtrain.models.encoders import (
    ConvNeXtEncoder,
    Encoder,
    MobileNetEncoder,
    ResNetEncoder,
    SwinEncoder,
    UNetEncoder,
    VGGEncoder,
)

UPSAMPLINGS = ("transposed", "bilinear")
ENCODERS = {
    "unet": lambda: UNetEncoder(base_channels=2),
    "resnet18": lambda: ResNetEncoder("resnet18"),
    "mobilenet_v3_small": lambda: MobileNetEncoder("mobilenet_v3_small"),
}


def small(upsampling: str = "transposed", *, depth: int = 5) -> UNet:
    return UNet(3, encoder=UNetEncoder(base_channels=2, depth=depth), upsampling=upsampling)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 47)])
def test_the_bilinear_decoder_is_that_of_segmentation_models_pytorch(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = shake(smp.Unet(name, encoder_weights=None, decoder_interpolation="bilinear"))
    ours = UNet(2, encoder=ResNetEncoder(name), upsampling="bilinear").eval()
    renamed = rename(
        theirs.state_dict(),
        (r"^decoder\.blocks\.(\d)\.conv1\.", r"decoder.\1.conv.0."),
        (r"^decoder\.blocks\.(\d)\.conv2\.", r"decoder.\1.conv.1."),
    )
    left = ours.load_state_dict(renamed, strict=False)
    assert left.missing_keys == ["classifier.weight", "classifier.bias"]
    assert left.unexpected_keys == ["segmentation_head.0.weight", "segmentation_head.0.bias"]
    image = torch.randn(2, 3, *size)
    with recorded(*ours.decoder) as stages, torch.no_grad():
        ours(image)
        expected = theirs.decoder(theirs.encoder(image))  # past their check that sizes are multiples of 32
    assert_same(stages[-1], expected)


def test_channels_are_the_papers_64_to_1024_and_back() -> None:
    with torch.device("meta"):
        model = UNet(2).eval()
        with recorded(*model.encoder.blocks, *model.decoder) as outputs, torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 48)).shape == (1, 2, 32, 48)
    assert [tuple(output.shape[1:]) for output in outputs] == [
        *((64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (1024, 2, 3)),
        *((512, 4, 6), (256, 8, 12), (128, 16, 24), (64, 32, 48)),
    ]


@pytest.mark.parametrize(("base", "depth", "in_channels", "num_classes"), [(64, 5, 1, 2), (16, 4, 3, 11), (8, 6, 3, 2)])
def test_the_number_of_parameters_is_the_sum_over_the_papers_layers(
    base: int, depth: int, in_channels: int, num_classes: int
) -> None:
    def double_conv(i: int, o: int) -> int:
        return 9 * i * o + 2 * o + 9 * o * o + 2 * o  # no bias before a norm, which has a scale and a shift

    channels = [base * 2**level for level in range(depth)]
    expected = sum(double_conv(i, o) for i, o in zip([in_channels, *channels], channels, strict=False))
    for fine, coarse in itertools.pairwise(channels):
        expected += 4 * coarse * fine + fine + double_conv(2 * fine, fine)  # 2x2 up-convolution, the skip beside it
    expected += base * num_classes + num_classes
    with torch.device("meta"):
        encoder = UNetEncoder(in_channels=in_channels, base_channels=base, depth=depth)
        model = UNet(num_classes, encoder=encoder)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def by_hand(model: UNet, image: Tensor) -> Tensor:
    """Return the transposed U-Net's logits, with the decoder written out; sizes doubled from 2n are cut to 2n - 1."""
    *skips, x = model.encoder(image)
    for stage in model.decoder:
        x = F.conv_transpose2d(x, stage.up.weight, stage.up.bias, stride=2)
        like = skips.pop() if skips else None
        height, width = image.shape[2:] if like is None else like.shape[2:]
        out = x.new_zeros(*x.shape[:2], max(height, x.shape[2]), max(width, x.shape[3]))
        out[..., : x.shape[2], : x.shape[3]] = x  # where pooling rounds down, a row is missing
        out = out[..., :height, :width]
        x = stage.conv(out if like is None else torch.cat([out, like], dim=1))
    return model.classifier(x)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (1, 1), (17, 200), (33, 32)])
def test_odd_sizes_are_cut_at_the_right_and_bottom(size: tuple[int, int]) -> None:
    model = shake(small())
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        actual = model(image)
        assert actual.shape == (1, 3, *size)
        torch.testing.assert_close(actual, by_hand(model, image))


@functools.cache
def vgg() -> VGGEncoder:
    return VGGEncoder("vgg11", before_pooling=True)


@pytest.mark.parametrize("size", [(64, 64), (95, 63), (33, 47)])
def test_where_an_encoder_rounds_odd_sizes_down_the_decoder_pads_at_the_right_and_bottom(size: tuple[int, int]) -> None:
    encoder = copy.deepcopy(vgg())
    assert encoder.strides[0] == 1
    model = UNet(3, encoder=encoder, decoder_channels=[16, 12, 8, 6, 4]).eval()
    assert len(model.decoder) == 5
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert [f.shape[3] for f in encoder(image)] == [size[1] // stride for stride in encoder.strides]
        assert_same(model(image), by_hand(model, image))


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("family", [SwinEncoder, ConvNeXtEncoder])
def test_on_patches_the_last_two_doublings_have_no_skip(family: type[Encoder], upsampling: str) -> None:
    model = UNet(2, encoder=family("swin_t" if family is SwinEncoder else "convnext_tiny"), upsampling=upsampling)
    assert model.encoder.strides == (4, 8, 16, 32)
    with recorded(*model.eval().decoder) as outputs, torch.no_grad():
        assert model(torch.rand(1, 3, 70, 101)).shape == (1, 2, 70, 101)
        fine = model.encoder(torch.rand(1, 3, 70, 101))[0].shape[2:]
    assert [output.shape[1] for output in outputs] == [256, 128, 64, 32, 16]
    assert [tuple(output.shape[2:]) for output in outputs[2:]] == [tuple(fine), (35, 51), (70, 101)]
    widths = [stage.conv[0][0].in_channels for stage in model.decoder]
    ups = [256, 128, 64, 32, 16] if upsampling == "transposed" else [768, 256, 128, 64, 32]
    assert widths == [up + skip for up, skip in zip(ups, [384, 192, 96, 0, 0], strict=True)]


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("size", [(97, 131), (64, 64), (1, 1), (17, 200), (33, 32)])
def test_the_logits_have_the_size_of_an_image_of_any_size(upsampling: str, size: tuple[int, int]) -> None:
    model = small(upsampling).eval()
    assert model(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_batch_of_one_odd_image_trains_on_every_encoder_and_every_parameter_gets_a_gradient(
    encoder: str, upsampling: str
) -> None:
    torch.manual_seed(0)
    model = UNet(2, encoder=ENCODERS[encoder](), upsampling=upsampling)
    logits = model(torch.rand(1, 3, 97, 131))
    assert logits.shape == (1, 2, 97, 131)
    (logits * torch.randn_like(logits)).sum().backward()
    assert not without_gradient(model)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_finest_skip_carries_details_that_pooling_loses(upsampling: str) -> None:
    torch.manual_seed(0)
    model = small(upsampling).eval()
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 20, 30] += 0.1
    difference = (model(changed) - model(image)).abs().sum(dim=1)[0]
    assert (difference == difference.max()).nonzero().sub(torch.tensor([20, 30])).abs().max() <= 4


def test_without_the_skips_the_logits_are_others() -> None:
    torch.manual_seed(0)
    model = shake(small())
    image = torch.rand(1, 3, 64, 64)
    features = model.encoder(image)
    expected = model(image)
    for level in range(4):
        blanked = [f * (index != level) for index, f in enumerate(features)]
        model.encoder.forward = lambda _, blanked=blanked: blanked
        assert not torch.allclose(model(image), expected)


def test_decoder_channels_can_be_chosen() -> None:
    model = UNet(2, encoder=ResNetEncoder("resnet18"), decoder_channels=[40, 30, 20, 10, 8])
    assert model.classifier.in_channels == 8
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_dropout_at_the_bottom_is_the_papers_unless_told_otherwise() -> None:
    with torch.device("meta"):
        assert UNet(2).encoder.dropout.p == 0.5
    model = UNet(2, encoder=UNetEncoder(base_channels=2, dropout=0.0))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(x), model(x))


@pytest.mark.parametrize("channels", [[], [8, 8, 8], [8] * 5])
def test_a_wrong_number_of_decoder_channels_is_refused(channels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"decoder_channels: {len(channels)} given for 4 decoder stages"):
        UNet(2, encoder=UNetEncoder(base_channels=2), decoder_channels=channels)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_encoder_is_refused_with_the_remedy(output_stride: int) -> None:
    with pytest.raises(ValueError, match=r"encoder: U-Net needs strides that double.*use output_stride 32"):
        UNet(2, encoder=ResNetEncoder("resnet18", output_stride=output_stride))


def test_an_unknown_upsampling_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="upsampling: 'nearest' is not one of transposed, bilinear"):
        small("nearest")


class CoarseEncoder(Encoder):
    """Two features from some stride on."""

    mean, std = (0.5,) * 3, (0.5,) * 3

    def __init__(self, finest: int) -> None:
        super().__init__()
        self.channels, self.strides = (4, 8), (finest, 2 * finest)
        self.patches = nn.Conv2d(3, 4, finest, stride=finest)
        self.merge = nn.Conv2d(4, 8, 2, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        fine = self.patches(image)
        return [fine, self.merge(fine)]


@pytest.mark.parametrize("finest", [2, 4, 8])
def test_an_encoder_of_ones_own_gives_full_size_logits(finest: int) -> None:
    model = UNet(2, encoder=CoarseEncoder(finest))
    assert len(model.decoder) == 1 + finest.bit_length() - 1
    assert model.eval()(torch.rand(1, 3, 40, 64)).shape == (1, 2, 40, 64)


@pytest.mark.parametrize("finest", [16, 3])
def test_an_encoder_whose_finest_feature_is_too_coarse_is_refused(finest: int) -> None:
    with pytest.raises(ValueError, match=rf"U-Net needs a feature at stride 1 to 8; this encoder's finest is {finest}"):
        UNet(2, encoder=CoarseEncoder(finest))
