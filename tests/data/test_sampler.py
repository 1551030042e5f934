"""Is the order a pure function of (seed, epoch), dealt to the ranks, and can it start in mid-epoch?"""

from collections import Counter

import numpy as np
import pytest

from segtrain.data.sampler import EpochSampler, EvalSampler, epoch_order
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


REPEATS = np.array([0.0, 0.4, 1.0, 2.7, 1.3, 0.6] * 4)  # 24 samples, 24 in an epoch


def test_an_epoch_with_repeats_counts_how_often_each_sample_came_before() -> None:
    order = epoch_order(24, seed=0, epoch=3, repeats=REPEATS)
    assert order.shape == (24, 2)
    for sample in range(24):
        assert sorted(order[order[:, 0] == sample, 1]) == list(range((order[:, 0] == sample).sum()))
    assert order[:, 1].max() == 2
    assert (epoch_order(24, seed=0, epoch=3)[:, 1] == 0).all()


def test_repeats_of_a_sample_are_spread_over_the_epoch() -> None:
    orders = [epoch_order(24, seed=0, epoch=epoch, repeats=REPEATS)[:, 0] for epoch in range(200)]
    neighbours = np.mean([(order[1:] == order[:-1]).mean() for order in orders])
    assert neighbours < 0.12  # by chance (4 x 4.8 + 4 x 0.6) / (24 x 23) = 0.04


def test_with_repeats_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert keys(epoch=2, num_samples=24, repeats=REPEATS) == keys(epoch=2, num_samples=24, repeats=REPEATS)
    orders = {
        tuple(keys(epoch=epoch, seed=seed, num_samples=24, repeats=REPEATS)) for epoch in range(3) for seed in (0, 1)
    }
    assert len(orders) == 6


@pytest.mark.parametrize("total", [24.0, 31.4, 31.6, 7.0])
def test_epochs_with_repeats_are_of_one_length_in_whole_batches(total: float) -> None:
    repeats = REPEATS * (total / REPEATS.sum())
    sampler = EpochSampler(24, batch_size=3, seed=0, repeats=repeats, world_size=2)
    assert len(sampler) == round(total) // 6 * 3
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_an_epoch_with_repeats_is_dealt_to_ranks_and_resumed_as_one_without(batch: int) -> None:
    options = {"num_samples": 24, "repeats": REPEATS, "batch_size": 2}
    alone = keys(epoch=1, **{**options, "batch_size": 4})
    ranks = [keys(epoch=1, rank=rank, world_size=2, **options) for rank in range(2)]
    assert [key for pair in zip(*ranks, strict=True) for key in pair] == alone
    assert len(set(alone)) == 24
    for rank in range(2):
        assert keys(epoch=1, start=(1, batch), rank=rank, world_size=2, **options) == ranks[rank][2 * batch :]


@pytest.mark.parametrize("num_samples", [1, 7, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_goes_through_every_sample_once_over_all_ranks(num_samples: int, world_size: int) -> None:
    samplers = [EvalSampler(num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [key.sample for sampler in samplers for key in sampler]
    assert sorted(together) == list(range(num_samples))
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
    assert list(EvalSampler(3)) == [Key(0, 0), Key(0, 1), Key(0, 2)]
