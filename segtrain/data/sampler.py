"""The order of the samples: a pure function of (seed, epoch), dealt to the ranks, startable in mid-epoch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from segtrain.data.samples import Key


class EpochSampler(Sampler[Key]):
    """Shuffled (epoch, index) keys of one rank's share of every epoch.

    Every rank gets the same number of samples; the remainder of an epoch is dropped, another one each epoch.
    Lightning calls `set_epoch` before every epoch.

    Args:
        num_samples: in the data set.
        batch_size: per rank; an epoch is cut to whole batches.
        seed: with the epoch, all that the order depends on.
        rank: of this process.
        world_size: number of processes.
        start: (epoch, batch) at which a resumed run goes on.
        repeat: go through the first epoch again and again.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: tuple[int, int] = (0, 0),
        repeat: bool = False,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_epoch, self.start_batch = start
        self.repeat = repeat
        self.epoch = 0 if repeat else self.start_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = 0 if self.repeat else epoch

    def __len__(self) -> int:
        """Return the samples of a whole epoch on this rank."""
        return self.num_samples // (self.batch_size * self.world_size) * self.batch_size

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        mine = order[self.rank :: self.world_size][: len(self)]
        skip = self.start_batch * self.batch_size if epoch == self.start_epoch and not self.repeat else 0
        for index in mine[skip:]:
            yield epoch, int(index)


class EvalSampler(Sampler[Key]):
    """Every sample once over all ranks, in order and without padding, so that the score is that of one process.

    Args:
        num_samples: in the data set.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, num_samples: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, num_samples, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Key]:
        for index in self.indices:
            yield 0, index
