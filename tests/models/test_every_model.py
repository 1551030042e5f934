"""What is true of every network, on every family of encoders: sizes, parameters, precision, capture, learning."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from every_model import (
    MATRIX,
    PAIRS,
    WITH_STRIDE,
    assert_same,
    build,
    learn_by_heart,
    train_without_chance,
    without_gradient,
)
from torch import Tensor, nn
from torch.export import Dim
from torchvision.models import get_model_weights, resnet18, resnet34, resnet50

from segtrain.models import FCN, DeepLabV3, DeepLabV3Plus, DilatedFCN, PSPNet, SegNet, UNet
from segtrain.models.encoders import (
    MobileNetEncoder,
    ResNetEncoder,
    SegNetBasicEncoder,
    UNetEncoder,
)

# The parameters, counted by others' code or from the papers' tables


def conv(i: int, o: int, size: int = 3, *, bias: bool = False, norm: bool = True) -> int:
    """Count a convolution, by default without a bias and followed by batch norm's scale and shift."""
    return i * o * size**2 + o * bias + 2 * o * norm


def separable(i: int, o: int) -> int:
    return 9 * i + 2 * i + conv(i, o, 1)


def scorer(i: int, classes: int, size: int = 1) -> int:
    return conv(i, classes, size, bias=True, norm=False)


def fcn_head(i: int, classes: int) -> int:
    return conv(i, i // 4) + scorer(i // 4, classes)


def body(network: Callable[..., nn.Module]) -> int:
    """Count torchvision's ResNet without its classifier."""
    with torch.device("meta"):
        net = network(weights=None)
    return count(net) - count(net.fc)


def documented(name: str) -> int:
    """Return what torchvision's documentation says of a segmentation network with 21 classes and auxiliary head."""
    return get_model_weights(name).DEFAULT.meta["num_params"]


VGG16 = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 2, (256, 512), *[(512, 512)] * 5]
VGG16_CONVS = sum(conv(i, o, bias=True, norm=False) for i, o in VGG16)
FC = 512 * 4096 * 49 + 4096 + 4096 * 4096 + 4096


def aspp(i: int, o: int, branch: Callable[[int, int], int] = conv) -> int:
    return 2 * conv(i, o, 1) + 3 * branch(i, o) + conv(5 * o, o, 1)


def smp_count(network: Callable[..., nn.Module], encoder: str, classes: int, **arguments: str) -> int:
    with torch.device("cpu"):
        return count(network(encoder, encoder_weights=None, classes=classes, **arguments))


def segnet_decoder(classes: int) -> int:
    mirrored = [(o, i) for i, o in reversed(VGG16)]
    return sum(conv(i, o) for i, o in mirrored[:-1]) + scorer(64, classes, 3)


def unet_count(classes: int) -> int:
    widths = [64, 128, 256, 512, 1024]
    down = sum(conv(i, o) + conv(o, o) for i, o in itertools.pairwise([3, *widths]))
    up = sum(4 * o * i + o + conv(2 * o, o) + conv(o, o) for o, i in itertools.pairwise(widths))
    return down + up + scorer(64, classes)


def resnet18_at(output_stride: int) -> ResNetEncoder:
    return ResNetEncoder("resnet18", output_stride=output_stride)


PSP_POOLED = 4 * conv(2048, 512, 1) + conv(4096, 512)
COUNTS: dict[str, tuple[Callable[[], nn.Module], Callable[[], int]]] = {
    # wkentaro/pytorch-fcn's, the port of the authors' Caffe network: 136,152,917
    "fcn32s, learned": (
        lambda: FCN(21, stride=32, learned_upsampling=True),
        lambda: VGG16_CONVS + FC + scorer(4096, 21) + 21 * 21 * 64**2,
    ),
    "fcn16s, learned": (
        lambda: FCN(21, stride=16, learned_upsampling=True),
        lambda: VGG16_CONVS + FC + scorer(4096, 21) + scorer(512, 21) + 21 * 21 * (4**2 + 32**2),
    ),
    "fcn8s, learned": (
        lambda: FCN(21, learned_upsampling=True),
        lambda: VGG16_CONVS + FC + scorer(4096, 21) + scorer(512, 21) + scorer(256, 21) + 21 * 21 * (2 * 4**2 + 16**2),
    ),
    "fcn8s": (
        lambda: FCN(21),
        lambda: VGG16_CONVS + FC + scorer(4096, 21) + scorer(512, 21) + scorer(256, 21) + 21 * 21 * 2 * 4**2,
    ),
    "fcn_resnet50 with auxiliary head": (lambda: DilatedFCN(21), lambda: documented("fcn_resnet50")),
    "fcn_resnet50": (lambda: DilatedFCN(21, aux={}), lambda: body(resnet50) + fcn_head(2048, 21)),
    "unet 64 to 1024": (lambda: UNet(2), lambda: unet_count(2)),
    "unet on resnet34": (
        lambda: UNet(21, encoder=ResNetEncoder("resnet34"), upsampling="bilinear"),
        lambda: (
            smp_count(smp.Unet, "resnet34", 21, decoder_interpolation="bilinear") - scorer(16, 21, 3) + scorer(16, 21)
        ),
    ),
    "unet on resnet18": (
        lambda: UNet(5, encoder=ResNetEncoder("resnet18"), upsampling="bilinear"),
        lambda: smp_count(smp.Unet, "resnet18", 5) - scorer(16, 5, 3) + scorer(16, 5),
    ),
    "segnet": (
        lambda: SegNet(11),
        lambda: VGG16_CONVS + 2 * sum(o for _, o in VGG16) + segnet_decoder(11),
    ),
    "segnet_basic": (
        lambda: SegNet(11, encoder=SegNetBasicEncoder(), decoder_relu=False),
        lambda: conv(3, 64, 7) + 7 * conv(64, 64, 7) + scorer(64, 11),
    ),
    "pspnet on resnet50": (
        lambda: PSPNet(150),
        lambda: body(resnet50) + PSP_POOLED + scorer(512, 150) + fcn_head(1024, 150),
    ),
    "pspnet without auxiliary head": (
        lambda: PSPNet(19, aux={}),
        lambda: body(resnet50) + PSP_POOLED + scorer(512, 19),
    ),
    "deeplabv3 on resnet50": (
        lambda: DeepLabV3(21),
        lambda: body(resnet50) + aspp(2048, 256) + scorer(256, 21),
    ),
    "deeplabv3_resnet50, torchvision's": (
        lambda: DeepLabV3(21, head_conv=True, aux={"stage4": 0.5}),
        lambda: documented("deeplabv3_resnet50"),
    ),
    "deeplabv3_mobilenet_v3_large, torchvision's": (
        lambda: DeepLabV3(21, encoder=MobileNetEncoder("mobilenet_v3_large", output_stride=16), head_conv=True),
        lambda: documented("deeplabv3_mobilenet_v3_large") - conv(40, 10) - scorer(10, 21),  # its auxiliary head
    ),
    "deeplabv3plus on resnet50": (
        lambda: DeepLabV3Plus(21),
        lambda: (
            body(resnet50)
            + aspp(2048, 256, separable)
            + conv(256, 48, 1)
            + separable(304, 256)
            + separable(256, 256)
            + scorer(256, 21)
        ),
    ),
    "deeplabv3plus on resnet18, dense": (
        lambda: DeepLabV3Plus(5, encoder=resnet18_at(16), separable=False),
        lambda: body(resnet18) + aspp(512, 256) + conv(64, 48, 1) + conv(304, 256) + conv(256, 256) + scorer(256, 5),
    ),
    # norms after three depthwise convolutions, a second decoder convolution, and theirs after the pyramid
    "deeplabv3plus on resnet34, from segmentation_models_pytorch's": (
        lambda: DeepLabV3Plus(5, encoder=ResNetEncoder("resnet34", output_stride=16)),
        lambda: (
            smp_count(smp.DeepLabV3Plus, "resnet34", 5)
            + 3 * 2 * 512
            + 2 * 304
            + separable(256, 256)
            - (9 * 256 + conv(256, 256, 1))
        ),
    ),
    "deeplabv3 on resnet34, from segmentation_models_pytorch's": (
        lambda: DeepLabV3(5, encoder=ResNetEncoder("resnet34", output_stride=8), output_stride=8, head_conv=True),
        lambda: smp_count(smp.DeepLabV3, "resnet34", 5),
    ),
}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_the_parameters_are_those_of_the_paper_or_of_others_code_to_the_last(name: str) -> None:
    make, expected = COUNTS[name]
    with torch.device("meta"):
        model = make()
    assert count(model) == expected()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("fcn32s, learned", 136_152_917),  # https://github.com/wkentaro/pytorch-fcn
        ("unet 64 to 1024", 31_037_698),  # https://github.com/milesial/Pytorch-UNet
        ("segnet", 29_450_000),  # Badrinarayanan et al., in millions
        ("segnet_basic", 1_425_000),  # likewise
    ],
)
def test_the_parameters_are_as_many_as_published(name: str, published: int) -> None:
    assert COUNTS[name][1]() == pytest.approx(published, rel=0.007 if name.startswith("segnet") else 0)


def test_the_formulas_count_a_resnet_as_torchvision_documents_it() -> None:
    assert body(resnet34) + 512 * 1000 + 1000 == get_model_weights("resnet34").DEFAULT.meta["num_params"]


# Any size, any batch, any precision


@pytest.fixture(scope="module", params=MATRIX, ids="-".join)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """Build each pair once; pytest runs its tests one after the other, the one that trains it last."""
    return build(*request.param)


def test_bfloat16_changes_the_logits_no_more_than_noise_in_the_image_explains(network: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    noise = 2**-9 * image * torch.randn_like(image)  # as large as rounding to bfloat16
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(image).float()
        by_noise = (network(image + noise) - expected).std().item()
    assert rounded.isfinite().all()
    assert (rounded - expected).std().item() < 20 * by_noise  # every layer rounds, and not the image alone


def test_the_logits_have_the_size_of_an_image_of_any_size(network: nn.Module) -> None:
    with torch.no_grad():
        for size in ((33, 47), (64, 96), (97, 65)):
            logits = network(torch.randn(1, 3, *size))
            assert logits.shape == (1, 3, *size)
            assert logits.isfinite().all()


def test_channels_last_gives_the_same_logits(network: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        network.to(memory_format=torch.channels_last)
        assert_same(network(image.contiguous(memory_format=torch.channels_last)), expected, 1e-4)


def test_a_single_odd_image_trains_and_gradients_reach_every_parameter(network: nn.Module) -> None:
    train_without_chance(network).zero_grad()
    outputs = network(torch.randn(1, 3, 97, 65))
    outputs = [*outputs.values()] if isinstance(outputs, dict) else [outputs]
    assert all(tensor.shape == (1, 3, 97, 65) for tensor in outputs)
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in outputs).backward()
    assert not without_gradient(network)  # data-parallel training stops at such
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_gradients_under_bfloat16_are_finite_and_point_where_exact_ones_do(model: str, encoder: str) -> None:
    net = build(model, encoder)
    image, mask = torch.randn(2, 3, 64, 64), torch.randint(3, (2, 64, 64))
    gradients = []
    for low in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            logits = net(image)
        F.cross_entropy(logits.float(), mask).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    exact, rounded = gradients
    assert rounded.isfinite().all()
    assert F.cosine_similarity(exact, rounded, dim=0).item() > 0.9


def narrow(output_stride: int) -> UNetEncoder:
    return UNetEncoder(base_channels=8, depth=output_stride.bit_length(), dropout=0)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "fcn": lambda: FCN(3, encoder=narrow(32)),
    "dilated_fcn": lambda: DilatedFCN(3, encoder=narrow(8), dropout=0),
    "unet, transposed": lambda: UNet(3, encoder=narrow(8)),
    "unet, bilinear": lambda: UNet(3, encoder=narrow(8), upsampling="bilinear"),
    "unet on resnet18": lambda: UNet(3, encoder=ResNetEncoder("resnet18")),
    "segnet": lambda: SegNet(3, encoder=SegNetBasicEncoder(base_channels=16), decoder_relu=False),
    "pspnet": lambda: PSPNet(3, encoder=narrow(8), channels=32, dropout=0),
    "deeplabv3": lambda: DeepLabV3(3, encoder=narrow(8), output_stride=8, channels=32, dropout=0),
    "deeplabv3plus": lambda: DeepLabV3Plus(3, encoder=narrow(16), channels=32, dropout=0),
}


@pytest.mark.parametrize("name", SMALL)
def test_one_batch_is_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    assert learn_by_heart(SMALL[name]()) > 0.99


@pytest.mark.parametrize("model", WITH_STRIDE)
def test_there_is_one_dropout_and_it_is_as_strong_as_asked_for(model: str) -> None:
    for options, expected in (({}, 0.1), ({"dropout": 0.37}, 0.37)):
        net = build(model, "unet", aux={}, **options)
        dropouts = [m.p for name, m in net.named_modules() if isinstance(m, nn.Dropout) and "encoder" not in name]
        assert dropouts == [expected]


# Compilation and export


@pytest.fixture(autouse=True)
def _no_captured_graphs() -> Iterator[None]:
    """Forget what earlier tests compiled: Dynamo gives up after some versions of one function."""
    yield
    torch._dynamo.reset()


def assert_captured(model: str, encoder: str, *modes: bool) -> None:
    net = build(model, encoder)
    image = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for training in modes:
        net.train(training)
        torch.manual_seed(1)  # of dropout and stochastic depth
        expected = net(image)
        torch.manual_seed(1)
        assert_same(compiled(image), expected)


def assert_exported(model: str, encoder: str) -> None:
    net = build(model, encoder)
    image = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(net, (image,)).module()
    with torch.no_grad():
        assert_same(exported(image), net(image))


# the quickest stands for all in the fast set
CAPTURED = [pytest.param(*pair, marks=() if pair[0] == "segnet" else pytest.mark.slow) for pair in PAIRS]


@pytest.mark.parametrize(("model", "encoder"), CAPTURED)
def test_each_network_compiles_as_one_graph_in_evaluation_and_in_training(model: str, encoder: str) -> None:
    assert_captured(model, encoder, False, True)


@pytest.mark.parametrize(("model", "encoder"), CAPTURED)
def test_each_network_exports_at_one_size(model: str, encoder: str) -> None:
    assert_exported(model, encoder)


OTHERS = [pair for pair in MATRIX if pair not in PAIRS]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "encoder"), OTHERS)
def test_every_pair_compiles_as_one_graph_in_training(model: str, encoder: str) -> None:
    assert_captured(model, encoder, True)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "encoder"), OTHERS)
def test_every_pair_exports_at_one_size(model: str, encoder: str) -> None:
    assert_exported(model, encoder)


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_each_network_exports_for_any_batch_and_any_multiple_of_32(model: str, encoder: str) -> None:
    net = build(model, encoder)
    n, h, w = (Dim(name, min=low, max=16) for name, low in (("n", 1), ("h", 2), ("w", 2)))
    shapes = ({0: n, 2: 32 * h, 3: 32 * w},)
    exported = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes=shapes).module()
    for size in ((1, 3, 64, 96), (3, 3, 160, 64)):
        image = torch.randn(size)
        with torch.no_grad():
            assert_same(exported(image), net(image))


INDUCTOR = [(model, encoder if model == "segnet" else "unet") for model, encoder in PAIRS]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "encoder"), INDUCTOR)
def test_inductor_gives_the_same_logits_and_the_same_gradients(model: str, encoder: str) -> None:
    net = build(model, encoder).double()  # in single precision gradients that ReLUs cut differ by half a per cent
    image, weight = torch.randn(2, 3, 64, 64).double(), torch.randn(2, 3, 64, 64)
    compiled = torch.compile(net, fullgraph=True, dynamic=False)
    with torch.no_grad():
        assert_same(compiled(image), net(image), 1e-8)
        assert_same(torch.compile(net.float(), dynamic=False)(image.float()), net(image.float()), 1e-3)
    train_without_chance(net.double())  # Inductor draws other random numbers

    def gradients(call: Callable[[Tensor], Tensor | dict[str, Tensor]]) -> Tensor:
        net.zero_grad()
        outputs = call(image)
        outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
        sum((tensor * weight).sum() for tensor in outputs.values()).backward()
        return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])

    expected = gradients(net)
    assert_same(gradients(compiled), expected, 1e-8)


# The names in a checkpoint

KEYS = Path(__file__).parent / "state_dict_keys"
NAMED = {model: "vgg11_bn" if model == "segnet" else "resnet18" for model, _ in PAIRS}
SUPERVISED = {"unet": {"stage4": 1.0, "decoder1": 1.0}, "segnet": {"stage4": 1.0, "decoder1": 1.0}}


def keys_of(model: str) -> str:
    net = build(model, NAMED[model], aux=SUPERVISED.get(model, {"stage4": 1.0}))
    lines = [f"{name} {tuple(tensor.shape)}" for name, tensor in net.state_dict().items()]
    encoder = [line for line in lines if line.startswith("encoder.")]
    digest = hashlib.sha256("\n".join(sorted(encoder)).encode()).hexdigest()
    rest = sorted(line for line in lines if not line.startswith("encoder."))
    return "\n".join([f"encoder.* {len(encoder)} tensors sha256 {digest}", *rest]) + "\n"


@pytest.mark.parametrize("model", NAMED)
def test_the_names_and_shapes_in_a_checkpoint_do_not_change(model: str) -> None:
    file = KEYS / f"{model}.txt"
    found = keys_of(model)
    if "SEGTRAIN_WRITE_KEYS" in os.environ:
        file.write_text(found)
    assert found == file.read_text(), (
        f"the tensors of {model} have other names or shapes than in {file.name}: checkpoints that users have will no "
        "longer load. If that is meant, say so in the release notes and write the file anew: "
        "SEGTRAIN_WRITE_KEYS=1 python -m pytest tests/models/test_every_model.py -k names_and_shapes"
    )
