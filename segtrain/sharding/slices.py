"""From slices of weights, averages and optimizer states to whole tensors, and back: what checkpoints need."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def local(tensor: Tensor) -> Tensor:
    """Return this rank's slice, which shares its memory with the tensor; a plain tensor as it is."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def slice_like(whole: Tensor, own: Tensor) -> Tensor:
    """Return this rank's share of a whole tensor, laid out as `own`; without a message."""
    if not isinstance(own, DTensor) or whole.shape != own.shape:
        return whole
    mine = torch.empty_like(own.detach(), dtype=whole.dtype)
    share = distribute_tensor(whole, own.device_mesh, own.placements, src_data_rank=None)
    local(mine).copy_(local(share))  # a copy: what was shared out may be a view, which would keep the whole
    return mine


def whole_on_first_rank(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with sharded tensors put together on the CPU of the first rank; other ranks get nothing.

    All ranks call this. One tensor at a time is whole on a device.
    """
    whole = {}
    for name, tensor in tensors.items():
        value = tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
        if dist.get_rank() == 0:
            whole[name] = value.cpu() if isinstance(value, Tensor) else value
    return whole


def put_together(slices: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the whole tensors of which every rank has slices, laid out as `own`; as `whole_on_first_rank`.

    Plain tensors, where nothing is sharded, stay as they are.
    """
    if not any(isinstance(tensor, DTensor) for tensor in own.values()):
        return dict(slices)
    return whole_on_first_rank(
        {name: _join(mine, own[name]) if isinstance(own[name], DTensor) else mine for name, mine in slices.items()}
    )


def _join(mine: Tensor, own: Tensor) -> DTensor:
    assert isinstance(own, DTensor)
    return DTensor.from_local(
        mine, own.device_mesh, own.placements, run_check=False, shape=own.shape, stride=own.stride()
    )


def on_any_rank(flag: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Return whether a boolean is true on any rank, where each has slices of the tensors; else as it is."""
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return flag
    number = flag.to(torch.uint8)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return number.bool()


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """Return what `optimizer.state_dict()` is without sharding, on the first rank; all ranks call this."""
    state = optimizer.state_dict()
    return state | {"state": {number: whole_on_first_rank(values) for number, values in state["state"].items()}}


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer whose parameters were whole."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    own = dict(zip(numbers, parameters, strict=False))  # `load_state_dict` says what does not fit
    shares = {
        number: {
            key: slice_like(value, own[number]) if isinstance(value, Tensor) and number in own else value
            for key, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": shares})


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a module that may be sharded."""
    own = module.state_dict()
    module.load_state_dict({name: slice_like(t, own[name]) if name in own else t for name, t in weights.items()})
