"""Do the norms that replace batch norm keep its weights, and what its name promises?"""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoder_cases import randomised
from torch import Tensor, nn

from segtrain.models.encoders import EfficientNetLiteEncoder, ResNetEncoder, TimmEncoder
from segtrain.models.layers import PooledBatchNorm2d, conv_norm_relu
from segtrain.models.norms import FrozenBatchNorm2d, change_norms, restore_norms, synchronise_norms
from segtrain.sync_norms import SyncNorms


class Network(nn.Module):
    """An encoder and a decoder with a pooled branch, as the models have them."""

    def __init__(self, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = conv_norm_relu(3, 6) if encoder is None else encoder
        self.decoder = nn.Sequential(conv_norm_relu(6, 8), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 10, 1))
        self.norm = PooledBatchNorm2d(10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(image)
        return self.norm(self.decoder(x))


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise every group of channels of every image by its own mean and variance."""
    grouped = x.reshape(x.shape[0], groups, -1)
    deviation = (grouped.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    normalised = ((grouped - grouped.mean(dim=-1, keepdim=True)) / deviation).reshape(x.shape)
    return normalised * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def test_group_norm_replaces_every_batch_norm_and_keeps_weights_and_biases() -> None:
    model = randomised(ResNetEncoder("resnet18"))
    before = copy.deepcopy(model.state_dict())
    count = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    change_norms(model, "group")
    kept = model.state_dict()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(isinstance(module, nn.GroupNorm) for module in model.modules()) == count == 20
    assert kept.keys() == {key for key in before if not key.endswith(("mean", "var", "tracked"))}
    assert all(torch.equal(tensor, before[key]) for key, tensor in kept.items())


@pytest.mark.parametrize(
    # at most 32 groups, of two channels or more, all of one size
    ("channels", "groups"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (6, 1), (16, 8), (24, 4), (40, 4), (64, 32), (96, 16), (100, 2), (512, 32)],
)
def test_the_groups_divide_the_channels(channels: int, groups: int) -> None:
    model = nn.Sequential(randomised(nn.BatchNorm2d(channels)))
    weight, bias = model[0].weight, model[0].bias
    change_norms(model, "group")
    x = torch.randn(2, channels, 5, 4)
    assert model[0].num_groups == groups
    torch.testing.assert_close(model(x), group_norm(x, groups, weight, bias))


@pytest.mark.parametrize("training", [True, False])
def test_with_group_norm_an_image_does_not_see_the_others_of_its_batch(training: bool) -> None:
    model = Network()
    change_norms(model, "group")
    model.train(training)
    images = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_batch_norm_is_left_as_it_is() -> None:
    model = Network()
    modules = [*model.modules()]
    change_norms(model, "batch")
    assert [*map(id, model.modules())] == [*map(id, modules)]


def test_a_frozen_encoder_normalises_by_its_statistics_in_training_too() -> None:
    model = randomised(Network())
    image = torch.rand(2, 3, 8, 8)
    expected = model.encoder(image)  # in eval mode
    change_norms(model, "frozen")
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.testing.assert_close(model.encoder(image), expected)
    model(image).square().sum().backward()
    assert isinstance(model.encoder[1], FrozenBatchNorm2d)
    assert [name for name, _ in model.encoder.named_parameters()] == ["0.weight"]
    assert model.encoder[0].weight.grad.any()
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {
        *(f"decoder.0.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        *(f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
    }


def test_synchronising_the_batch_norms_leaves_frozen_ones() -> None:
    model = Network()
    change_norms(model, "frozen")
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(synchronised.encoder[1], FrozenBatchNorm2d)
    assert isinstance(synchronised.decoder[0][1], nn.SyncBatchNorm)


class TimmNetwork(nn.Module):
    def __init__(self, encoder: TimmEncoder) -> None:
        super().__init__()
        self.encoder = encoder


@pytest.mark.parametrize(
    "build", [lambda: EfficientNetLiteEncoder("efficientnet_lite0"), lambda: TimmEncoder("lcnet_050")]
)
def test_timms_norms_are_frozen_with_the_activation_that_they_contain(build: Any) -> None:
    model = TimmNetwork(randomised(build()))
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.encoder(image)
        change_norms(model, "frozen")
        found = model.train().encoder.eval()(image)  # eval for the stochastic depth
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_timms_norms_become_group_norms_with_the_activation_that_they_contain() -> None:
    encoder = randomised(TimmEncoder("lcnet_050"))
    names = set(encoder.state_dict())
    x = torch.randn(2, 8, 6, 5)
    block = encoder.net.blocks[0][0]
    norm = block.bn1  # timm's batch norm and hard swish in one
    expected = F.hardswish(group_norm(x, 4, norm.weight, norm.bias))
    change_norms(encoder, "group")
    torch.testing.assert_close(block.bn1(x), expected)
    assert set(encoder.state_dict()) == {key for key in names if not key.endswith(("mean", "var", "tracked"))}


@pytest.mark.parametrize(
    ("norm", "sentence"),
    [
        ("layer", "norm: 'layer' is not one of batch, group, frozen"),
        ("frozen", "frozen is for a pretrained encoder, and"),
    ],
)
def test_a_norm_that_a_network_cannot_have_is_an_error(norm: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        change_norms(nn.Sequential(nn.BatchNorm2d(3)), norm)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_synchronised_norms_compute_the_same_keep_activations_and_go_back(name: str) -> None:
    encoder = EfficientNetLiteEncoder(name) if "lite" in name else ResNetEncoder(name)
    network = nn.Sequential(encoder).train()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        network(image)  # statistics that are not those of the start
        before = network.eval()(image)
        keys = list(network.state_dict())
        parameters = {id(parameter) for parameter in network.parameters()}
        replaced = synchronise_norms(network)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
        during = network(image)
        assert list(network.state_dict()) == keys
        assert {id(parameter) for parameter in network.parameters()} == parameters
        network.double().float()  # a move to another device makes new buffers
        network.train()
        network(image)
        restore_norms(replaced)
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
        trained = network.eval()(image)
    for first, second, third in zip(before, during, trained, strict=True):
        torch.testing.assert_close(second, first)
        assert not torch.equal(third, first)  # the statistics of the step in between came along


def test_the_trainers_synchronised_norms_are_these() -> None:
    encoder = EfficientNetLiteEncoder("efficientnet_lite0").eval()
    image = torch.rand(1, 3, 64, 64)
    plugin = SyncNorms()
    with torch.no_grad():
        before = encoder(image)[-1]
        torch.testing.assert_close(plugin.apply(encoder)(image)[-1], before)
        torch.testing.assert_close(plugin.revert(encoder)(image)[-1], before)
