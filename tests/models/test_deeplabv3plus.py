"""Is DeepLabv3+ the paper's: output strides, atrous rates, pyramid, decoder, and does it train on any batch?"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from segtrain.models import DeepLabV3Plus
from segtrain.models.deeplabv3plus import AtrousPyramid
from segtrain.models.encoders import Encoder, MobileNetEncoder, ResNetEncoder, UNetEncoder


def network(
    *, output_stride: int = 16, name: str = "resnet18", **options: bool | Sequence[int] | None
) -> DeepLabV3Plus:
    family = ResNetEncoder if name.startswith("resnet") else MobileNetEncoder
    encoder = family(name, output_stride=output_stride)
    return DeepLabV3Plus(3, encoder=encoder, output_stride=output_stride, channels=16, skip_channels=8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_the_pyramid_sees_the_output_stride_and_the_decoder_stride_four(output_stride: int, name: str) -> None:
    model = network(output_stride=output_stride, name=name).eval()
    sizes: dict[str, tuple[int, ...]] = {}
    for part in ("pyramid", "skip", "decoder"):
        getattr(model, part).register_forward_hook(lambda _, __, o, part=part: sizes.update({part: tuple(o.shape[2:])}))
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)
    deep = (64 // output_stride, 96 // output_stride)
    assert sizes == {"pyramid": deep, "skip": (16, 24), "decoder": (16, 24)}


@pytest.mark.parametrize(
    ("output_stride", "chosen", "rates"), [(16, None, [6, 12, 18]), (8, None, [12, 24, 36]), (16, [2, 5], [2, 5])]
)
@pytest.mark.parametrize("separable", [True, False])
def test_atrous_rates_are_the_papers_unless_chosen(
    output_stride: int, chosen: list[int] | None, rates: list[int], separable: bool
) -> None:
    model = network(output_stride=output_stride, atrous_rates=chosen, separable=separable)
    convolutions = [m for m in model.pyramid.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [conv.dilation for conv in convolutions] == [(rate, rate) for rate in rates]
    assert all((conv.groups == conv.in_channels) == separable for conv in convolutions)
    assert len(model.pyramid.branches) == len(rates) + 2  # a 1x1 branch and the pooled image


@pytest.mark.parametrize("training", [True, False])
def test_the_plain_pyramid_is_torchvisions_aspp(training: bool) -> None:
    torch.manual_seed(0)
    ours = AtrousPyramid(12, 16, rates=(6, 12, 18), separable=False, dropout=0.5)
    theirs = ASPP(12, [6, 12, 18], out_channels=16)
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(2, 12, 9, 7)
    torch.manual_seed(1)  # of dropout
    expected = theirs.train(training)(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours.train(training)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "mobilenet_v2"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_odd_image_trains_in_a_batch_of_any_size_and_every_parameter_gets_a_gradient(
    name: str, batch_size: int
) -> None:
    torch.manual_seed(0)
    model = network(name=name)
    logits = model(torch.rand(batch_size, 3, 97, 131))
    assert logits.shape == (batch_size, 3, 97, 131)
    (logits * torch.randn_like(logits)).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("size", [(1, 1), (33, 64), (40, 130)])
def test_the_logits_have_the_size_of_an_image_of_any_size(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network().eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_the_default_is_a_resnet_50_with_256_channels_and_a_skip_of_48() -> None:
    with torch.device("meta"):
        model = DeepLabV3Plus(19)
    assert model.encoder.channels[-1] == 2048
    assert model.classifier.in_channels == 256
    assert model.skip[0].out_channels == 48
    assert model.decoder[0][0].in_channels == 256 + 48
    assert model.skip[0].in_channels == 256  # Conv2 of the paper: the last feature of stride 4


def test_one_batch_is_learnt_by_heart() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(2, 64, 64, dtype=torch.long)
    mask[0, 16:48, :32], mask[1, :, 40:] = 1, 2
    image = torch.rand(2, 3, 64, 64) + mask.unsqueeze(1)
    model = network(name="mobilenet_v2")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image), mask).backward()
        optimizer.step()
    assert (model(image).argmax(dim=1) == mask).float().mean().item() > 0.97  # logits are at stride 4


@pytest.mark.parametrize(("wanted", "given"), [(16, 32), (16, 8), (8, 16)])
def test_an_encoder_of_another_output_stride_is_refused_with_the_remedy(wanted: int, given: int) -> None:
    with pytest.raises(ValueError, match=f"{wanted} is wanted and the encoder has {given}.*output_stride {wanted}"):
        DeepLabV3Plus(2, encoder=ResNetEncoder("resnet18", output_stride=given), output_stride=wanted)


@pytest.mark.parametrize("stride", [4, 32, 0])
def test_an_output_stride_that_the_paper_does_not_have_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"output_stride: {stride} is not one of 8, 16"):
        DeepLabV3Plus(2, encoder=UNetEncoder(base_channels=2), output_stride=stride)


class CoarseEncoder(Encoder):
    """One feature of stride 16."""

    channels, strides, mean, std = (4,), (16,), (0.5,) * 3, (0.5,) * 3

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[:, :1, ::16, ::16].expand(-1, 4, -1, -1)]


def test_an_encoder_without_a_feature_at_stride_four_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CoarseEncoder has no feature of stride 4 \(it has \(16,\)\)"):
        DeepLabV3Plus(2, encoder=CoarseEncoder())
