"""What all ranks agree on without waiting for their devices: a group of their own over gloo."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist

Plain = TypeVar("Plain")


class Agreement:
    """The largest number that any rank brings, or what each does; every rank must ask at the same places."""

    def __init__(self) -> None:
        self.group: Any = None

    def largest(self, number: int) -> int:
        """Return the largest `number` of all ranks; of one process its own."""
        if not self._meets():
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.group)
        return int(value)

    def of_each(self, value: Plain) -> list[Plain]:
        """Return the plain values of all ranks, by rank."""
        if not self._meets():
            return [value]
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value, group=self.group)
        return values

    def _meets(self) -> bool:
        """Return whether there are other ranks; then there is a group."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return False
        if self.group is None:
            self.group = dist.new_group(backend="gloo")
        return True
