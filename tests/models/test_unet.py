"""Is the U-Net the paper's: its channels, its parameters, a mask of the image's size, and does it learn?"""

import itertools

import pytest
import torch
from torch import Tensor, nn

from segtrain.models import UNet
from segtrain.models.encoders import Encoder, MobileNetEncoder, ResNetEncoder, UNetEncoder

UPSAMPLINGS = ("transposed", "bilinear")


def small(upsampling: str = "transposed", *, depth: int = 5) -> UNet:
    return UNet(3, encoder=UNetEncoder(base_channels=2, depth=depth), upsampling=upsampling)


ENCODERS = {
    "unet": lambda: UNetEncoder(base_channels=2),
    "resnet18": lambda: ResNetEncoder("resnet18"),
    "mobilenet_v3_small": lambda: MobileNetEncoder("mobilenet_v3_small"),
    "mobilenet_v2": lambda: MobileNetEncoder("mobilenet_v2"),
}


def test_channels_are_the_papers_64_to_1024_and_back() -> None:
    model = UNet(2).eval()
    shapes: list[tuple[int, ...]] = []
    for part in (*model.encoder.stages, *model.decoder):
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 48)).shape == (1, 2, 32, 48)
    assert shapes == [
        *((64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (1024, 2, 3)),
        *((512, 4, 6), (256, 8, 12), (128, 16, 24), (64, 32, 48)),
    ]


@pytest.mark.parametrize(
    ("base", "depth", "in_channels", "num_classes"), [(64, 5, 3, 2), (64, 5, 1, 2), (16, 4, 3, 11)]
)
def test_the_number_of_parameters_is_the_sum_over_the_papers_layers(
    base: int, depth: int, in_channels: int, num_classes: int
) -> None:
    def double_conv(i: int, o: int) -> int:
        return 9 * i * o + 2 * o + 9 * o * o + 2 * o  # no bias before a norm, which has a scale and a shift

    channels = [base * 2**level for level in range(depth)]
    expected = sum(double_conv(i, o) for i, o in zip([in_channels, *channels], channels, strict=False))
    for fine, coarse in itertools.pairwise(channels):
        expected += (
            4 * coarse * fine + fine + double_conv(2 * fine, fine)
        )  # 2x2 up-convolution, then the skip beside it
    expected += base * num_classes + num_classes
    model = UNet(num_classes, encoder=UNetEncoder(in_channels=in_channels, base_channels=base, depth=depth))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


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
    model = UNet(2, encoder=ENCODERS[encoder](), upsampling=upsampling)
    logits = model(torch.rand(1, 3, 97, 131))
    assert logits.shape == (1, 2, 97, 131)
    (logits * torch.randn_like(logits)).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_one_batch_is_learnt_by_heart(upsampling: str) -> None:
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disk = (rows - 12) ** 2 + (columns - 14) ** 2 < 64
    mask = torch.stack([disk.long(), 2 * (disk.T & (rows > 8)).long()])
    image = torch.rand(2, 3, 32, 32) + 0.5 * mask.unsqueeze(1)
    model = UNet(3, encoder=UNetEncoder(base_channels=8, depth=3), upsampling=upsampling)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image), mask).backward()
        optimizer.step()
    accuracy = (model(image).argmax(dim=1) == mask).float().mean().item()
    assert accuracy > 0.99


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_finest_skip_carries_details_that_pooling_loses(upsampling: str) -> None:
    model = small(upsampling).eval()
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 20, 30] += 0.1
    difference = (model(changed) - model(image)).abs().sum(dim=1)[0]
    assert (difference == difference.max()).nonzero().sub(torch.tensor([20, 30])).abs().max() <= 4


def test_decoder_channels_can_be_chosen() -> None:
    model = UNet(2, encoder=ResNetEncoder("resnet18"), decoder_channels=[40, 30, 20, 10, 8])
    assert model.classifier.in_channels == 8
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)


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


class PatchEncoder(Encoder):
    """Features from stride 4 on, as transformers have them."""

    channels, strides, mean, std = (4, 8), (4, 8), (0.5,) * 3, (0.5,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, stride=4)
        self.merge = nn.Conv2d(4, 8, 2, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        fine = self.patches(image)
        return [fine, self.merge(fine)]


def test_an_encoder_that_starts_at_stride_four_gives_full_size_logits_or_is_refused() -> None:
    try:
        model = UNet(2, encoder=PatchEncoder())
    except ValueError as error:
        assert "encoder" in str(error)  # noqa: PT017
    else:
        assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)
