"""Which values of a space are looked at before the first trial: every choice, both ends of every range, and pairs."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from segtrain.sweep.ranges import Value
from segtrain.sweep.space import Parameter, Space

MOST = 16  # trials that are looked at to see choices beside each other, where single ones need no more
OFTEN = 2  # draws with a value, after which it needs none of its own

Values = dict[str, Value]


def trial_values(space: Space) -> list[Values]:
    """Return values of some trials: each choice and each end of a range is in one, and pairs of choices as room is."""
    generator = random.Random(0)
    drawn: list[Values] = []
    seen: Counter[tuple[str, Value]] = Counter()
    for fixed in _singles(space, generator):
        if all(seen[item] >= OFTEN for item in fixed.items()):
            continue
        drawn.append(_draw(space, fixed, generator))
        seen.update(drawn[-1].items())
    pairs = {pair for values in drawn for pair in _pairs(space, values)}
    for _ in range(20 * MOST):
        if len(drawn) >= MOST:
            break
        values = _draw(space, {}, generator)
        if new := _pairs(space, values) - pairs:
            drawn.append(values)
            pairs |= new
    return drawn


def values_of(parameter: Parameter) -> list[Value]:
    """Return a parameter's choices, or the ends of its range."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return [str(choice) for choice in distribution.choices]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return list(dict.fromkeys([distribution.low, distribution.high]))


def _singles(space: Space, generator: random.Random) -> Iterator[Values]:
    """Yield {key: value}, with the choices that it depends on; and each of those choices with some value."""
    by_key = {parameter.key: parameter for parameter in space.parameters}
    for parameter in space.parameters:
        values = values_of(parameter)
        for value in values:
            yield {parameter.key: value, **_conditions(parameter, by_key, generator)}
        if parameter.when is not None:
            key, choices = parameter.when
            for choice in choices:
                above = _conditions(by_key[key], by_key, generator)
                yield {parameter.key: generator.choice(values), key: choice, **above}


def _conditions(parameter: Parameter, by_key: Mapping[str, Parameter], generator: random.Random) -> Values:
    if parameter.when is None:
        return {}
    key, choices = parameter.when
    return {key: generator.choice(choices), **_conditions(by_key[key], by_key, generator)}


def _draw(space: Space, fixed: Values, generator: random.Random) -> Values:
    return space.draw(partial(_value, fixed, generator))


def _value(fixed: Values, generator: random.Random, key: str, distribution: BaseDistribution) -> Value:
    return fixed[key] if key in fixed else generator.choice(values_of(Parameter(key, "", distribution)))


def _pairs(space: Space, values: Values) -> set[tuple[tuple[str, Value], ...]]:
    choices = {p.key for p in space.parameters if isinstance(p.distribution, CategoricalDistribution)}
    return set(itertools.combinations([item for item in values.items() if item[0] in choices], 2))
