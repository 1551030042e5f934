"""What all ranks agree on without waiting for their devices: a group of their own over gloo."""

from typing import Any

import torch
import torch.distributed as dist


class Agreement:
    """The largest number that any rank brings; every rank must ask at the same places."""

    def __init__(self) -> None:
        self.group: Any = None

    def largest(self, number: int) -> int:
        """Return the largest `number` of all ranks; of one process its own."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return number
        if self.group is None:
            self.group = dist.new_group(backend="gloo")
        value = torch.tensor(number)
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.group)
        return int(value)
