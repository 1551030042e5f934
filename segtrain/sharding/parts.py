"""A network whose weights are shared out among devices: torch's `fully_shard` (FSDP2) on parts chosen by size.

Zhao et al., 2023, arXiv:2304.11277. Every device keeps a slice of each weight, of its gradient and of the optimizer's
state; a part's weights are put together while that part runs.
"""

import copy
import logging
from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map_only

log = logging.getLogger("segtrain")

LARGEST = 1 / 8  # of all weights: what a part may have, since a device holds the whole of a part or two while they run
SMALLEST = 1 / 256  # below that a message of its own is not worth it, and the whole network's part takes the weights


def shard(
    model: nn.Module, mesh: DeviceMesh, *, size: tuple[int, int, int], bf16: bool = False, reshard: bool = True
) -> list[nn.Module]:
    """Share the weights out among the devices of a mesh, in place; return the parts that are gathered one at a time.

    All ranks begin with the weights of the first.

    Args:
        model: on the CPU, the same network on every rank.
        mesh: one dimension, over all ranks.
        size: (channels, height, width) of an image that it takes.
        bf16: the weights travel as bfloat16, for training under bf16 autocast. Parts with batch norm, whose kernels
            want weights as precise as their statistics, keep float32.
        reshard: give a part's weights away after its forward pass, and gather them once more for the backward pass.
    """
    parts = find_parts(model, size)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.contiguous()  # fully_shard takes no other
            first = tensor.data.to(mesh.device_type)
            dist.broadcast(first, src=0)
            tensor.data.copy_(first)
    placed: set[nn.Module] = set()
    for part in (*parts, model):
        own = set(part.modules()) - placed
        precise = not bf16 or any(isinstance(module, _NormBase) for module in own)
        policy = MixedPrecisionPolicy(
            param_dtype=None if precise else torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        part.register_forward_hook(_without_views)
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard and part is not model)
        placed |= own
    return parts


def _without_views(part: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Return copies of outputs that are views.

    A change in place of a view takes away the hook that gathers the part's weights for its backward pass.
    """
    return tree_map_only(Tensor, lambda tensor: tensor if tensor._base is None else tensor.clone(), outputs)


def find_parts(model: nn.Module, size: tuple[int, int, int]) -> list[nn.Module]:
    """Return the parts that are gathered one at a time: the outermost modules with at most an eighth of the weights,
    and layers that have more.

    Only modules that a forward pass calls are parts, since their call is what gathers the weights; weights that belong
    to no part (small layers, embeddings, tied weights) are gathered for all of the pass. A network that does not run on
    the meta device has no parts, and is gathered whole.

    Args:
        model: the network.
        size: (channels, height, width) of an image that it takes.
    """
    called = _called(model, size)
    total = sum(parameter.numel() for parameter in model.parameters())
    owners = _owners(model)
    parts: dict[nn.Module, None] = {}

    def visit(module: nn.Module) -> None:
        for child in module.children():
            weights = sum(parameter.numel() for parameter in child.parameters())
            if not weights or weights < SMALLEST * total or child in parts:
                continue
            alone = child in called and all(owners[id(p)] == count for p, count in _shared_inside(child))
            before = len(parts)
            if not alone or weights > LARGEST * total:
                visit(child)
            if alone and len(parts) == before:
                parts[child] = None

    visit(model)
    return list(parts)


def _owners(module: nn.Module) -> Counter[int]:
    """Return by id in how many modules each parameter is: tied weights are in several."""
    return Counter(id(p) for inner in module.modules() for p in inner._parameters.values() if p is not None)


def _shared_inside(module: nn.Module) -> list[tuple[nn.Parameter, int]]:
    inside = _owners(module)
    return [(parameter, inside[id(parameter)]) for parameter in module.parameters()]


def _called(model: nn.Module, size: tuple[int, int, int]) -> set[nn.Module]:
    """Return the modules that a forward pass calls; nothing is computed."""
    tensors = (*model.parameters(), *model.buffers())
    memo: dict[int, Any] = {id(tensor): tensor.detach().to("meta") for tensor in tensors}
    memo |= {id(p): nn.Parameter(memo[id(p)], requires_grad=p.requires_grad) for p in model.parameters()}
    meta = copy.deepcopy(model, memo).eval()
    names: set[str] = set()
    for name, module in meta.named_modules():
        module.register_forward_pre_hook(lambda module, inputs, name=name: names.add(name))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            meta(torch.zeros(1, *size, device="meta"))
    except Exception as error:  # whatever a user's network needs real numbers for
        log.warning(
            f"{type(model).__name__} does not run on torch's meta device ({type(error).__name__}), so its parts are "
            "not known: every device gathers all weights at once, and shares out gradients and the optimizer's state"
        )
        return set()
    return {module for name, module in model.named_modules() if name in names}


def gather_weights(model: nn.Module) -> None:
    """Put all weights together on every rank and keep them, so that forward passes send no messages.

    For evaluation, where ranks have different numbers of images and tiles: a message that only some ranks send is
    waited for for ever. `state_dict` and `scatter_weights` end it. Nothing happens to a network that is not sharded.
    """
    for part in _sharded_modules(model):
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()


def scatter_weights(model: nn.Module, *, reshard: bool) -> None:
    """Undo `gather_weights`; `reshard` is that of `shard`."""
    for part in _sharded_modules(model):
        part.reshard()
        part.set_reshard_after_forward(reshard and part is not model, recurse=False)


def _sharded_modules(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def is_sharded(model: nn.Module) -> bool:
    """Say whether `shard` was applied."""
    return isinstance(model, FSDPModule)
