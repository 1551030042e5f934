"""Are the networks made of operations with deterministic kernels, and do they repeat to the bit?"""

import functools

import pytest
import torch
from determinism import Refused, assert_repeats, exact, needs_gpu, parts
from every_model import ENCODERS, LIGHT, MODELS, WITH_STRIDE, encoder_of
from torch import nn

import segtrain.deterministic
from segtrain.losses import CrossEntropyLoss
from segtrain.models.smp import SMPModel
from segtrain.models.torchvision import TorchvisionModel

# every network, and every family of encoders
PAIRS = [*LIGHT.items(), *(("unet", encoder) for encoder in ENCODERS if encoder not in LIGHT.values())]


def network(model: str, encoder: str) -> nn.Module:
    stride, make = MODELS[model]
    stride = 32 if encoder == "swin_t" else stride
    options = {"output_stride": stride} if model in WITH_STRIDE else {}
    return make(4, encoder=encoder_of(encoder, stride), **options).train()


def refused_by(net: nn.Module) -> set[str]:
    """Return what a training step of the network needs that has no deterministic kernel on CUDA."""
    net = net.to("meta").train()
    with exact(), Refused() as refused:
        output = parts(net(torch.empty(2, 3, 64, 64, device="meta")))
        torch.stack([logits.sum() for logits in output]).sum().backward()
    return refused.names


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_a_network_needs_no_operation_without_a_deterministic_kernel(model: str, encoder: str) -> None:
    assert not refused_by(network(model, encoder))


def test_bilinear_resizing_is_left_to_torch_which_goes_by_indices_in_this_mode() -> None:
    net = network("deeplabv3", "unet").to("meta")
    with Refused() as refused:  # without the mode
        torch.stack([logits.sum() for logits in parts(net(torch.empty(2, 3, 64, 64, device="meta")))]).sum().backward()
    assert refused.names == {"upsample_bilinear2d_backward"}


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large"])
def test_torchvisions_networks_need_none_either(name: str) -> None:
    assert not refused_by(TorchvisionModel(4, name=name))


def test_of_smps_networks_those_that_are_named_need_one() -> None:
    needs = {
        arch: bool(refused_by(SMPModel(4, arch=arch, encoder_name="resnet18")))
        for arch in ("PSPNet", "UPerNet", "Unet", "FPN")
    }
    named = str(segtrain.deterministic.__doc__).partition("SMP's")[2]
    assert needs == {arch: arch in named for arch in needs}
    assert any(needs.values())


@pytest.mark.parametrize(("model", "encoder"), LIGHT.items())
def test_a_network_trains_to_equal_bits_on_a_cpu(model: str, encoder: str) -> None:
    assert_repeats(
        functools.partial(network, model, encoder), CrossEntropyLoss(ignore_index=255), device="cpu", steps=2
    )


@needs_gpu
@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_a_network_trains_to_equal_bits_on_a_gpu(model: str, encoder: str) -> None:
    assert_repeats(functools.partial(network, model, encoder), CrossEntropyLoss(ignore_index=255), device="cuda")
