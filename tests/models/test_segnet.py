"""Does SegNet undo the encoder's poolings by their indices, and is its decoder the encoder's mirror?"""

import pytest
import torch
import torch.nn.functional as F
from every_model import POOLING, assert_same, encoder_of, recorded, shake, without_gradient
from torch import Tensor, nn

from segtrain.models import SegNet
from segtrain.models.encoders import Encoder, ResNetEncoder, SegNetBasicEncoder, UNetEncoder, VGGEncoder
from segtrain.models.segnet import unpool


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5), (2, 2), (3, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpooling_is_torchs_in_value_and_gradient(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, *size).contiguous(memory_format=memory_format)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    ours, theirs = pooled.clone().requires_grad_(), pooled.clone().requires_grad_()
    actual, expected = unpool(ours, indices, size), F.max_unpool2d(theirs, indices, 2, output_size=size)
    assert torch.equal(actual, expected)
    weight = torch.randn_like(expected)
    (actual * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert actual.is_contiguous(memory_format=torch.channels_last)


def segnet_by_torch(net: SegNet, image: Tensor) -> Tensor:
    """Return the logits by torch's own unpooling."""
    x, poolings = image, []
    pool = nn.MaxPool2d(2, return_indices=True)
    for stage in net.encoder.convolutions():
        x = nn.Sequential(*stage)(x)
        shape = x.shape
        x, indices = pool(x)
        poolings.append((indices, shape))
    for stage in net.decoder:
        indices, shape = poolings.pop()
        x = stage(F.max_unpool2d(x, indices, 2, output_size=shape))
    return net.classifier(x)


@pytest.mark.parametrize("encoder", POOLING)
@pytest.mark.parametrize("size", [(64, 96), (47, 33)])
def test_the_logits_are_those_of_torchs_unpooling(encoder: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = shake(SegNet(3, encoder=encoder_of(encoder, 32)))
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        logits = net(image)
        assert logits.shape == (1, 3, *size)
        assert_same(logits, segnet_by_torch(net, image))
        net.to(memory_format=torch.channels_last)
        assert_same(net(image.contiguous(memory_format=torch.channels_last)), logits)


def test_a_value_returns_to_the_place_that_pooling_found_it_at() -> None:
    x = torch.tensor([[[[1.0, 5.0, 2.0], [3.0, 4.0, 9.0]]]])  # 2 x 3: the last column is in no pooling cell
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    assert unpool(pooled, indices, (2, 3)).tolist() == [[[[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]]]


def test_other_pooling_indices_with_the_same_pooled_values_change_the_logits() -> None:
    torch.manual_seed(0)
    net = SegNet(2, encoder=SegNetBasicEncoder(base_channels=4, depth=1)).eval()
    net.encoder.blocks[0] = nn.Conv2d(3, 4, 1, bias=False)  # one pixel each: exchanging pixels exchanges features
    net.eval()
    image = torch.randn(1, 3, 16, 16)
    swapped = image.view(1, 3, 16, 8, 2).flip(-1).view(1, 3, 16, 16)  # left and right within each pooling cell
    with torch.no_grad():
        torch.testing.assert_close(net.encoder(image)[0], net.encoder(swapped)[0])
        assert not torch.allclose(net(image), net(swapped))


def convs(module: nn.Module) -> list[tuple[int, int, int]]:
    return [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in module.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg16", "vgg13_bn"])
def test_the_decoder_mirrors_the_encoders_convolutions(name: str) -> None:
    with torch.device("meta"):
        net = SegNet(11, encoder=VGGEncoder(name))
    mirrored = [(o, i, size) for i, o, size in reversed(convs(net.encoder.features))]
    mirrored[-1] = (mirrored[-1][0], 11, 3)  # where the encoder sees three colours the decoder has the classes
    decoder = [layer for stage in net.decoder for layer in convs(stage)]
    assert [*decoder, *convs(net.classifier)] == mirrored
    norms = [m for m in net.decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [o for _, o, _ in decoder]
    assert sum(isinstance(m, nn.ReLU) for m in net.decoder.modules()) == len(decoder)
    assert net.classifier.bias is not None


def test_the_default_is_vgg_16_with_batch_norm() -> None:
    with torch.device("meta"):
        net = SegNet(11)
    assert len(convs(net.encoder)) == len([layer for stage in net.decoder for layer in convs(stage)]) + 1 == 13


def test_segnet_basic_is_four_convolutions_of_seven_down_and_up_and_no_relu_up() -> None:
    net = SegNet(11, encoder=SegNetBasicEncoder(), decoder_relu=False)
    assert convs(net.encoder) == [(3, 64, 7), *[(64, 64, 7)] * 3]
    assert [layer for stage in net.decoder for layer in convs(stage)] == [(64, 64, 7)] * 4
    assert convs(net.classifier) == [(64, 11, 1)]
    assert not [m for m in net.decoder.modules() if isinstance(m, nn.ReLU)]
    assert len([m for m in net.decoder.modules() if isinstance(m, nn.BatchNorm2d)]) == 4


def test_a_decoder_without_relu_passes_negative_values_on() -> None:
    for relu in (True, False):
        net = SegNet(2, encoder=SegNetBasicEncoder(base_channels=4), decoder_relu=relu)
        with recorded(*net.decoder) as outputs:
            net(torch.randn(2, 3, 32, 32))
        assert all((output.min() < 0) != relu for output in outputs)


@pytest.mark.parametrize("encoder", POOLING)
def test_one_odd_image_trains_and_every_parameter_gets_a_gradient(encoder: str) -> None:
    torch.manual_seed(0)
    net = SegNet(3, encoder=encoder_of(encoder, 32))
    logits = net(torch.randn(1, 3, 97, 65))
    assert logits.shape == (1, 3, 97, 65)
    (logits * torch.randn_like(logits)).sum().backward()
    assert not without_gradient(net)


@pytest.mark.parametrize("make", [lambda: ResNetEncoder("resnet18"), lambda: UNetEncoder(base_channels=2)])
def test_an_encoder_without_poolings_to_undo_is_refused_and_others_named(make: type[Encoder]) -> None:
    with pytest.raises(ValueError, match=r"SegNet undoes max poolings .*Encoder has none; choose vgg16_bn"):
        SegNet(2, encoder=make())


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_vgg_is_refused_with_the_remedy(output_stride: int) -> None:
    with torch.device("meta"):
        encoder = VGGEncoder("vgg11_bn", output_stride=output_stride)
    with pytest.raises(ValueError, match=r"SegNet needs every pooling .* give VGG output_stride 32"):
        SegNet(2, encoder=encoder)


def test_a_vgg_with_a_convolutional_classifier_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="SegNet needs every pooling and nothing after them"):
        SegNet(2, encoder=VGGEncoder("vgg11_bn", fc_as_conv=True))
