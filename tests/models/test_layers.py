"""Do the shared blocks and the normalisation do what torch's and torchvision's own do?"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.functional import normalize

from segtrain.models.layers import PooledContext, conv_norm_relu, initialise, resize
from segtrain.models.normalize import Normalize


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 18])
@pytest.mark.parametrize("separable", [True, False])
def test_the_block_keeps_the_size_and_is_not_negative(kernel_size: int, dilation: int, separable: bool) -> None:
    block = conv_norm_relu(3, 5, kernel_size, dilation=dilation, separable=separable)
    x = block(torch.randn(2, 3, 7, 10))
    assert x.shape == (2, 5, 7, 10)
    assert x.min() >= 0


def test_a_separable_block_has_the_parameters_of_a_depthwise_and_a_pointwise_convolution() -> None:
    count = sum(parameter.numel() for parameter in conv_norm_relu(8, 16, separable=True).parameters())
    assert count == 8 * 9 + 2 * 8 + 8 * 16 + 2 * 16
    count = sum(parameter.numel() for parameter in conv_norm_relu(8, 16).parameters())
    assert count == 8 * 16 * 9 + 2 * 16


def pooled_by_torch(block: PooledContext, x: torch.Tensor) -> torch.Tensor:
    """Adaptive pooling, convolution, norm, ReLU and bilinear resizing, as torchvision's ASPPPooling."""
    pooled = F.relu(block.norm(block.conv(F.adaptive_avg_pool2d(x, 1))))
    return F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("training", "batch_size"), [(True, 2), (True, 5), (False, 1), (False, 3)])
def test_pooled_context_is_pooling_convolution_norm_and_relu(training: bool, batch_size: int) -> None:
    block = PooledContext(3, 4).train(training)
    x = torch.randn(batch_size, 3, 6, 5)
    torch.testing.assert_close(block(x), pooled_by_torch(block, x))


def test_pooled_context_normalises_a_batch_of_one_by_the_running_statistics_and_leaves_them() -> None:
    block = PooledContext(3, 4)
    block.norm.running_mean = torch.tensor([0.1, -0.2, 0.3, 0.0])
    block.norm.running_var = torch.tensor([1.0, 2.0, 0.5, 3.0])
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    x = torch.randn(1, 3, 6, 5)
    trained = block.train()(x)
    torch.testing.assert_close(trained, pooled_by_torch(block.eval(), x))
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())
    trained.sum().backward()
    assert block.conv.weight.grad is not None


def test_resizing_a_row_of_two_to_four_interpolates_between_pixel_centres() -> None:
    row = resize(torch.tensor([[[[0.0, 1.0]]]]), like=torch.zeros(1, 1, 1, 4))
    assert row.flatten().tolist() == [0, 0.25, 0.75, 1]


def test_convolutions_get_kaimings_deviation_and_biases_zero() -> None:
    block = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ConvTranspose2d(32, 64, 2), nn.BatchNorm2d(64))
    initialise(block)
    for layer, fan_out in ((block[0], 32 * 9), (block[1], 32 * 4)):  # torch counts a transposed one by its inputs
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert not layer.bias.any()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_normalising_bytes_is_torchvisions_normalize_of_values_from_zero_to_one(channels: int) -> None:
    mean, std = [0.4, 0.5, 0.6, 0.7][:channels], [0.2, 0.3, 0.25, 0.1][:channels]
    image = torch.randint(0, 256, (2, channels, 5, 7), dtype=torch.uint8)
    torch.testing.assert_close(Normalize(mean, std)(image), normalize(image.float() / 255, mean, std))


def test_normalising_keeps_the_memory_format() -> None:
    image = torch.zeros(2, 3, 5, 7, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    assert Normalize([0.5] * 3, [0.5] * 3)(image).is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_restores_the_statistics_that_its_weights_were_trained_with() -> None:
    other = Normalize([0.5] * 3, [0.5] * 3)
    other.load_state_dict(Normalize([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]).state_dict())
    assert other.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert other.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
