"""Is the order a pure function of (seed, epoch), dealt to the ranks, and can it start in mid-epoch?"""

from collections import Counter

import pytest

from segtrain.data.sampler import EpochSampler, EvalSampler
from segtrain.data.samples import Key


def keys(epoch: int = 0, **options: object) -> list[Key]:
    sampler = EpochSampler(**{"num_samples": 23, "batch_size": 4, "seed": 0, **options})  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_has_each_sample_at_most_once_in_whole_batches() -> None:
    found = keys(epoch=3)
    assert len(found) == len(set(found)) == 20
    assert {key.epoch for key in found} == {3}
    assert {key.sample for key in found} <= set(range(23))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert keys(epoch=2) == keys(epoch=2)
    orders = {tuple(key.sample for key in keys(epoch=epoch, seed=seed)) for epoch in range(5) for seed in range(3)}
    assert len(orders) == 15
    assert tuple(range(20)) not in orders


def test_every_sample_is_left_out_in_some_epoch_and_none_in_all() -> None:
    counts = Counter(key.sample for epoch in range(60) for key in keys(epoch=epoch))
    assert counts.keys() == set(range(23))
    assert max(counts.values()) < 60


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("num_samples", [24, 25, 31])
def test_ranks_are_disjoint_equally_long_and_together_as_long_as_can_be(world_size: int, num_samples: int) -> None:
    shares = [
        keys(epoch=1, num_samples=num_samples, batch_size=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    together = [key for share in shares for key in share]
    assert len(set(together)) == len(together) == num_samples // (2 * world_size) * 2 * world_size


def test_the_global_batches_are_those_of_one_process() -> None:
    alone = keys(batch_size=8, num_samples=32)
    ranks = [keys(batch_size=4, num_samples=32, rank=rank, world_size=2) for rank in range(2)]
    for batch in range(4):
        joined = {key for rank in ranks for key in rank[4 * batch : 4 * batch + 4]}
        assert joined == set(alone[8 * batch : 8 * batch + 8])


@pytest.mark.parametrize("batch", [0, 1, 4, 5])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_start_in_mid_epoch_gives_the_tail_of_the_full_epoch(batch: int, rank: int) -> None:
    options = {"num_samples": 43, "rank": rank, "world_size": 2}
    assert keys(epoch=2, start=(2, batch), **options) == keys(epoch=2, **options)[4 * batch :]


def test_the_epochs_after_a_start_in_mid_epoch_are_whole() -> None:
    sampler = EpochSampler(23, batch_size=4, seed=0, start=(2, 3))
    assert list(sampler) == keys(epoch=2)[12:]  # before Lightning says which epoch it is
    sampler.set_epoch(3)
    assert list(sampler) == keys(epoch=3)


def test_the_length_is_a_whole_epochs_also_after_a_start_in_mid_epoch() -> None:
    for world_size in (1, 2):
        sampler = EpochSampler(23, batch_size=4, seed=0, world_size=world_size, start=(1, 2))
        assert len(sampler) == len(keys(world_size=world_size))


@pytest.mark.parametrize("num_samples", [1, 7, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_goes_through_every_sample_once_over_all_ranks(num_samples: int, world_size: int) -> None:
    samplers = [EvalSampler(num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [key.sample for sampler in samplers for key in sampler]
    assert sorted(together) == list(range(num_samples))
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
    assert list(EvalSampler(3)) == [Key(0, 0), Key(0, 1), Key(0, 2)]
