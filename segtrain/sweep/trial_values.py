"""Which values of a space are looked at before the first trial: every choice, both ends of every range, and pairs."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from segtrain.sweep.ranges import Value
from segtrain.sweep.space import Parameter, Space, choices_of

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
        return [*choices_of(parameter)]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return list(dict.fromkeys([distribution.low, distribution.high]))


def _singles(space: Space, generator: random.Random) -> Iterator[Values]:
    """Yield {name: value}, with the choices that it depends on; and each of those choices with some value."""
    for parameter in space.parameters:
        values = values_of(parameter)
        for value in values:
            yield {parameter.name: value, **_conditions(parameter, space, generator)}
        if parameter.when is not None:
            key, choices = parameter.when
            for choice in choices:
                yield {parameter.name: generator.choice(values), **_chosen(key, choice, space, generator)}


def _conditions(parameter: Parameter, space: Space, generator: random.Random) -> Values:
    if parameter.when is None:
        return {}
    key, choices = parameter.when
    return _chosen(key, generator.choice(choices), space, generator)


def _chosen(key: str, choice: str, space: Space, generator: random.Random) -> Values:
    """Return {name: choice} for one of the parameters of a key that have it, with the choices that it depends on."""
    above = generator.choice([parameter for parameter in space.of(key) if choice in choices_of(parameter)])
    return {above.name: choice, **_conditions(above, space, generator)}


def _draw(space: Space, fixed: Values, generator: random.Random) -> Values:
    return space.draw(partial(_value, fixed, generator))


def _value(fixed: Values, generator: random.Random, name: str, distribution: BaseDistribution) -> Value:
    return fixed[name] if name in fixed else generator.choice(values_of(Parameter(name, "", distribution)))


def _pairs(space: Space, values: Values) -> set[tuple[tuple[str, Value], ...]]:
    choices = {p.name for p in space.parameters if choices_of(p)}
    return set(itertools.combinations([item for item in values.items() if item[0] in choices], 2))
