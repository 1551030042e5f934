"""The order of the samples: a pure function of (seed, epoch), dealt to the ranks, startable in mid-epoch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from segtrain.data.samples import Key


class EpochSampler(Sampler[Key]):
    """Shuffled keys of one rank's share of every epoch.

    Every rank gets the same number of samples; the remainder of an epoch is dropped, another one each epoch.
    Lightning calls `set_epoch` before every epoch.

    Args:
        num_samples: in the data set.
        batch_size: per rank.
        accumulation: batches of an optimizer step; an epoch is cut to whole steps, whose images are the same however
            they are divided over ranks and batches.
        seed: with the epoch, all that the order depends on.
        repeats: (N,), how often each sample comes in an epoch, on average; None for once.
        rank: of this process.
        world_size: number of processes.
        start: (epoch, batch) at which a resumed run goes on.
        same_epoch: go through the first epoch again and again.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        accumulation: int = 1,
        seed: int,
        repeats: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        start: tuple[int, int] = (0, 0),
        same_epoch: bool = False,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.seed = seed
        self.repeats = repeats
        self.rank = rank
        self.world_size = world_size
        self.start_epoch, self.start_batch = start
        self.same_epoch = same_epoch
        self.epoch = 0 if same_epoch else self.start_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = 0 if self.same_epoch else epoch

    def __len__(self) -> int:
        """Return the samples of a whole epoch on this rank."""
        length = epoch_length(self.num_samples, self.repeats)
        step = self.batch_size * self.accumulation
        return length // (step * self.world_size) * step

    def __iter__(self) -> Iterator[Key]:
        skip = self.start_batch * self.batch_size if self.epoch == self.start_epoch and not self.same_epoch else 0
        yield from self.keys(self.epoch)[skip:]

    def keys(self, epoch: int) -> list[Key]:
        """Return all of an epoch on this rank, whatever a resumed run has behind it."""
        epoch = 0 if self.same_epoch else epoch
        order = epoch_order(self.num_samples, seed=self.seed, epoch=epoch, repeats=self.repeats)
        mine = order[self.rank :: self.world_size][: len(self)]
        return [Key(epoch, sample, repeat) for sample, repeat in mine.tolist()]


def epoch_length(num_samples: int, repeats: NDArray[np.float64] | None) -> int:
    """Return how many samples an epoch has over all ranks, before it is cut to whole batches."""
    return num_samples if repeats is None else max(1, round(float(repeats.sum())))


def epoch_order(
    num_samples: int, *, seed: int, epoch: int, repeats: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Return (length, 2): the sample, and 0 if it comes for the first time in this epoch, 1 for the second, ...

    An image that is to come 1.3 times on average comes once or twice, never more (systematic sampling), and epochs are
    of one length.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(num_samples)
    if repeats is None:
        return np.stack([order, np.zeros_like(order)], axis=1)
    edges = np.cumsum(repeats[order])
    length = epoch_length(num_samples, repeats)
    ticks = (np.arange(length) + rng.random()) * (edges[-1] / length)
    picked = order[np.searchsorted(edges, ticks, side="right").clip(max=num_samples - 1)]  # repeats are neighbours
    starts = np.flatnonzero(np.diff(picked, prepend=-1))
    again = np.arange(length) - np.repeat(starts, np.diff(starts, append=length))
    return rng.permutation(np.stack([picked, again], axis=1))


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
            yield Key(0, index)
