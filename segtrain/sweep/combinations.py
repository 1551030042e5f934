"""Which values can all trials of a space have, where there is an end of them?"""

from collections.abc import Sequence

from optuna.distributions import BaseDistribution

from segtrain.sweep.ranges import Value, count_of, values_of
from segtrain.sweep.space import Space

MOST = 2000  # above it a search does not come near the end


class _EndlessError(Exception):
    pass


def combinations(space: Space, most: int = MOST) -> list[dict[str, Value]] | None:
    """Return the values of every trial that a space has, conditions obeyed; None if there are more than `most`."""
    found: list[dict[str, Value]] = []
    path: list[int] = []  # the choice at each draw; beyond its end the first
    while len(found) <= most:
        sizes: list[int] = []

        def suggest(
            key: str, distribution: BaseDistribution, path: list[int] = path, sizes: list[int] = sizes
        ) -> Value:
            values = _values(distribution, most)
            sizes.append(len(values))
            if len(path) < len(sizes):
                path.append(0)
            return values[path[len(sizes) - 1]]

        try:
            found.append(space.draw(suggest))
        except _EndlessError:
            return None
        while path and path[-1] + 1 == sizes[len(path) - 1]:
            path.pop()
        if not path:
            return found
        path[-1] += 1
    return None


def _values(distribution: BaseDistribution, most: int) -> Sequence[Value]:
    count = count_of(distribution)
    if count is None or count > most:
        raise _EndlessError
    return values_of(distribution)
