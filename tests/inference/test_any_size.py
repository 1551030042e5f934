"""Does the any-size path give the network's own answer, whatever it pads, tiles, mirrors or resizes?"""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segtrain.inference.any_size import AnySize

SIZES = [(1, 1), (5, 3), (31, 32), (32, 32), (33, 64), (97, 131), (200, 40)]
each_size = pytest.mark.parametrize("size", SIZES)


def pointwise(image: Tensor) -> Tensor:
    """Two classes from each pixel alone."""
    return torch.cat([image.sum(dim=1, keepdim=True), image[:, :1] * 2 - 1], dim=1)


def constant(image: Tensor) -> Tensor:
    return torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[2:])


def needs_stride(stride: int, seen: list[tuple[int, ...]]) -> Callable[[Tensor], Tensor]:
    """Return a pointwise network that notes the sizes it sees, and breaks where they do not divide by the stride."""

    def model(image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        assert height % stride == 0
        assert width % stride == 0
        seen.append((height, width))
        return pointwise(image)

    return model


@each_size
@pytest.mark.parametrize("tile", [None, 32, 50])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_a_pointwise_network_gives_the_same_tiled_and_whole(
    size: tuple[int, int], tile: int | None, overlap: float
) -> None:
    image = torch.rand(2, 3, *size)
    seen: list[tuple[int, ...]] = []
    logits = AnySize(stride=16, tile=tile, overlap=overlap)(needs_stride(16, seen), image)
    torch.testing.assert_close(logits, pointwise(image))
    assert all(max(shape) <= (64 if tile == 50 else 32) for shape in seen if tile is not None)


@each_size
@pytest.mark.parametrize(
    "options", [{}, {"tile": 32}, {"flip": True}, {"scale": 0.5}, {"scale": 1.7, "flip": True, "tile": 64}]
)
def test_a_constant_network_stays_constant(size: tuple[int, int], options: dict[str, float]) -> None:
    image = torch.rand(1, 3, *size)
    logits = AnySize(stride=32, **options)(constant, image)  # type: ignore[arg-type]
    torch.testing.assert_close(logits, constant(image))


def test_padding_repeats_the_edge_at_the_bottom_and_right_and_is_cropped_away() -> None:
    image = torch.rand(1, 3, 5, 6)
    inputs: list[Tensor] = []

    def model(padded: Tensor) -> Tensor:
        inputs.append(padded)
        return padded

    logits = AnySize(stride=8)(model, image)
    assert torch.equal(logits, image)
    (padded,) = inputs
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :6], image)
    assert torch.equal(padded[..., 5:, :6], image[..., 4:, :].expand(-1, -1, 3, -1))
    assert torch.equal(padded[..., 6:], padded[..., 5:6].expand(-1, -1, -1, 2))


def test_an_image_that_divides_by_the_stride_reaches_the_network_untouched() -> None:
    image = torch.rand(1, 3, 32, 64)
    inputs: list[Tensor] = []
    AnySize(stride=32, tile=64)(lambda x: inputs.append(x) or x, image)
    assert len(inputs) == 1
    assert inputs[0] is image


def test_mirroring_averages_the_logits_with_those_of_the_mirrored_image() -> None:
    weight = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))

    def model(image: Tensor) -> Tensor:
        return F.conv2d(image, weight, padding=1)

    image = torch.rand(1, 3, 8, 8)
    expected = (model(image) + model(image.flip(3)).flip(3)) / 2
    torch.testing.assert_close(AnySize(stride=8, flip=True)(model, image), expected)
    assert not torch.allclose(expected, model(image))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scale_resizes_the_image_before_the_network_and_the_logits_back(scale: float) -> None:
    seen: list[tuple[int, ...]] = []
    image = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    logits = AnySize(stride=16, scale=scale)(needs_stride(16, seen), image)
    assert seen == [(64 * scale, 64 * scale)]
    # a ramp survives resizing but for the last pixels at its ends
    torch.testing.assert_close(logits[..., 4:-4], pointwise(image)[..., 4:-4], rtol=0, atol=1e-3)


def test_shrinking_averages_pixels_instead_of_skipping_them() -> None:
    stripes = (torch.arange(64) % 4 == 0).float().view(1, 1, 1, 64).expand(1, 3, 64, 64)
    logits = AnySize(stride=16, scale=0.25)(lambda image: image, stripes)
    torch.testing.assert_close(logits, torch.full_like(stripes, 0.25), rtol=0, atol=0.1)


@pytest.mark.parametrize("length", [33, 64, 100, 1000, 4097])
@pytest.mark.parametrize("tile", [32, 64, 512])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.99])
def test_tiles_cover_every_pixel_stay_inside_and_overlap_by_no_less_than_wanted(
    length: int, tile: int, overlap: float
) -> None:
    starts = AnySize(stride=32, tile=tile, overlap=overlap)._starts(length, tile)
    assert starts[0] == 0
    assert len(starts) == len(set(starts))
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] + tile == length
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(0 < step <= max(1, int(tile * (1 - overlap))) + 1 for step in steps)  # one pixel of rounding
    assert all(step <= tile for step in steps)


def test_neighbouring_tiles_are_blended_without_a_seam() -> None:
    calls = iter(range(100))

    def model(image: Tensor) -> Tensor:  # each tile answers with its own number
        return torch.full((1, 1, *image.shape[2:]), float(next(calls)))

    row = AnySize(stride=32, tile=64, overlap=0.5)(model, torch.rand(1, 3, 64, 128))[0, 0, 32]
    steps = row.diff()
    assert row[0] == 0
    assert row[-1] == 2
    assert steps.min() >= 0
    assert steps.max() < 0.1


def test_a_tile_that_does_not_divide_by_the_stride_is_made_larger() -> None:
    assert AnySize(stride=32, tile=100).tile == 128


def test_logits_of_few_bits_come_back_as_float32() -> None:
    any_size = AnySize(stride=4, tile=8, flip=True)
    assert any_size(lambda image: image.bfloat16(), torch.rand(1, 3, 13, 9)).dtype == torch.float32


def test_channels_last_images_give_the_same_logits() -> None:
    image = torch.rand(1, 3, 45, 70)
    any_size = AnySize(stride=16, tile=32)
    last = any_size(pointwise, image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, any_size(pointwise, image))
