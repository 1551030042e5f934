"""Do the shared blocks and the normalisation do what torch's and torchvision's own do?"""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead as TorchvisionHead
from torchvision.transforms.functional import normalize

from segtrain.models.layers import FCNHead, PooledBatchNorm2d, conv_norm_relu, fit, initialise, resize
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


@pytest.mark.parametrize(("training", "shape"), [(True, (2, 3, 1, 1)), (True, (1, 3, 2, 1)), (False, (1, 3, 1, 1))])
def test_pooled_batch_norm_is_batch_norm_where_that_works(training: bool, shape: tuple[int, ...]) -> None:
    ours, theirs = PooledBatchNorm2d(3).train(training), nn.BatchNorm2d(3).train(training)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_pooled_batch_norm_normalises_a_single_pixel_by_the_running_statistics_and_leaves_them() -> None:
    norm = PooledBatchNorm2d(2)
    norm.running_mean, norm.running_var = torch.tensor([0.1, -0.2]), torch.tensor([1.0, 4.0])
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 0.5)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    y = norm.train()(torch.tensor([1.1, 1.8]).view(1, 2, 1, 1))
    assert y.flatten().tolist() == pytest.approx([3.0 * 1.0 + 0.5, 3.0 * 1.0 + 0.5], rel=1e-4)
    y.sum().backward()
    assert norm.weight.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


def test_the_fcn_head_is_torchvisions() -> None:
    ours, theirs = FCNHead(16, 5).eval(), TorchvisionHead(16, 5).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 6, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]


def test_a_head_on_few_channels_has_one_inside() -> None:
    assert FCNHead(3, 5)(torch.randn(2, 3, 4, 4)).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("size", [(2, 3), (4, 5), (4, 2), (3, 4)])
def test_fitting_cuts_or_pads_with_zeros_at_the_right_and_bottom(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 3, 4)
    expected = np.zeros((1, 2, *size), np.float32)
    rows, columns = min(3, size[0]), min(4, size[1])
    expected[..., :rows, :columns] = x.numpy()[..., :rows, :columns]
    np.testing.assert_array_equal(fit(x, like=torch.zeros(1, 1, *size)).numpy(), expected)


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
