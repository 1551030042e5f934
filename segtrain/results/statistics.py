"""Means over seeds, and whether two settings differ by more than the luck of a seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A metric of a setting.

    Attributes:
        mean: over seeds.
        deviation: the sample standard deviation (n - 1); None of a single seed.
        count: of seeds.
    """

    mean: float
    deviation: float | None
    count: int


def score_of(values: Sequence[float]) -> Score | None:
    """Return mean and deviation; None without a value."""
    if not values:
        return None
    return Score(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Paired:
    """A paired t-test (Student, 1908) of two settings over their common seeds.

    Attributes:
        seeds: in both.
        differences: first minus second, a seed each.
        mean: of the differences.
        low, high: the 95 % interval of the mean.
        p: two-sided; NaN where all differences are equal, so that there is nothing to estimate their spread from.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    mean: float
    low: float
    high: float
    p: float


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Compare two settings seed by seed; None with fewer than 2 common seeds.

    Args:
        first: a metric by seed.
        second: likewise.
    """
    seeds = tuple(sorted(first.keys() & second.keys()))
    if len(seeds) < 2:
        return None
    from scipy import stats

    differences = tuple(first[seed] - second[seed] for seed in seeds)
    mean, freedom = statistics.fmean(differences), len(seeds) - 1
    error = statistics.stdev(differences) / math.sqrt(len(seeds))
    # a spread of rounding errors alone is none
    if error <= 1e-12 * max(map(abs, (*first.values(), *second.values()))):
        return Paired(seeds, differences, mean, mean, mean, math.nan)
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Paired(seeds, differences, mean, mean - half, mean + half, p)


def verdict(test: Paired | None, *, metric: str, names: tuple[str, str], common: int) -> str:
    """Return what a paired test says, in a sentence or two.

    Args:
        test: of the two settings.
        metric: that was compared.
        names: of the two.
        common: how many seeds both have.
    """
    what = f"{names[0]} against {names[1]}, {metric}"
    if test is None:
        has = "no common seed" if common == 0 else "1 common seed"
        return f"{what}: {has}, and a paired test needs 2 or more (seeds=5 repeats every trial)"
    count = len(test.seeds)
    if math.isnan(test.p):
        nothing = "the two are the same" if test.mean == 0 else "without a spread there is no test"
        return f"{what}: the difference is {test.mean:+.4f} with each of {count} seeds; {nothing}"
    said = "more than the luck of a seed explains" if test.p < 0.05 else "not more than the luck of a seed may explain"
    few = "; few seeds: only a large difference could be seen" if count < 5 and test.p >= 0.05 else ""
    return (
        f"{what}: mean difference {test.mean:+.4f} over {count} common seeds, "
        f"95 % interval {test.low:+.4f} to {test.high:+.4f}, paired t-test p = {test.p:.3g}: {said}{few}"
    )
