"""What does a range in Hydra's override words say: Optuna's distribution of it, and all its values."""

import math
from decimal import Decimal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    ParsedElementType,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from segtrain.config.quoting import quote

WORDS = "choice(a, b), range(1, 9), interval(0.1, 1) or tag(log, interval(1e-5, 1e-1))"

Value = bool | int | float | str


def distribution_of(override: Override) -> BaseDistribution:
    """Return Optuna's distribution of a parsed override.

    Raises:
        ValueError: if it is one value, or no range that can be searched.
    """
    value = override.value()
    tags = value.tags if isinstance(value, ChoiceSweep | RangeSweep | IntervalSweep) else set()
    if unknown := tags - {"log"}:
        raise ValueError(f"unknown tag {sorted(unknown)[0]!r}; the only one is log")
    log = "log" in tags
    if isinstance(value, ChoiceSweep):
        if log:
            raise ValueError("choices have no log scale; give interval or range")
        return CategoricalDistribution(list(dict.fromkeys(map(_text, value.list))))
    if isinstance(value, IntervalSweep):
        return _interval(value, log=log)
    if isinstance(value, RangeSweep):
        return _range(value, log=log)
    raise ValueError(f"one value and no range; give {WORDS}, or the value as an override of its own")


def _text(choice: ParsedElementType) -> str:
    """Return what follows `KEY=` for a choice: a string is in quotes where it is read as something else without.

    Hydra's `choice` gives strings without the quotes that they were typed in. It would write a backslash before a
    comma or a space, and in a path that would be quoted once more.
    """
    plain = choice.text if isinstance(choice, QuotedString) else choice
    if not isinstance(plain, str):
        return Transformer.str(choice)
    try:
        read = OverridesParser.create().parse_override(f"key={plain}").value()
    except HydraException:
        read = None
    return plain if read == plain else quote(plain)


def _refuse_endless(what: str, *numbers: float) -> None:
    if endless := [number for number in numbers if not math.isfinite(number)]:
        raise ValueError(f"the {what} are finite, and not {endless[0]}; give numbers")


def _interval(value: IntervalSweep, *, log: bool) -> BaseDistribution:
    assert value.start is not None
    assert value.end is not None
    _refuse_endless("ends of an interval", value.start, value.end)
    if value.start > value.end:
        raise ValueError(f"the interval runs the wrong way round; give interval({value.end:g}, {value.start:g})")
    if log and value.start <= 0:
        raise ValueError(f"a log scale begins above 0, and not at {value.start:g}")
    if isinstance(value.start, int) and isinstance(value.end, int):  # int(interval(1, 8))
        return IntDistribution(value.start, value.end, log=log)
    return FloatDistribution(float(value.start), float(value.end), log=log)


def _range(value: RangeSweep, *, log: bool) -> BaseDistribution:
    assert value.start is not None
    assert value.stop is not None
    _refuse_endless("ends and steps of a range", value.start, value.stop, value.step)
    if value.shuffle:
        raise ValueError("a search has no order to shuffle; give range(...)")
    if value.step <= 0 or value.start >= value.stop:
        raise ValueError(f"no value from {value.start} to below {value.stop} in steps of {value.step}")
    count = int((value.stop - value.start) / value.step - 1e-9)  # the end is left out, as in Python's range
    last = type(value.start + value.step)(_exact(value.start) + count * _exact(value.step))  # 0.9, not 3 * 0.3
    if log and value.start <= 0:
        raise ValueError(f"a log scale begins above 0, and not at {value.start}")
    if log and value.step != 1:
        raise ValueError("a log scale has no steps; give interval, or range with a step of 1")
    if isinstance(value.start, int) and isinstance(last, int):
        return IntDistribution(value.start, last, log=log, step=int(value.step))
    if log:
        raise ValueError("a log scale has no steps; give interval")
    return FloatDistribution(float(value.start), float(last), step=float(value.step))


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def count_of(distribution: BaseDistribution) -> int | None:
    """Return how many values a parameter can have; None where there is no end of them."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    return None if step is None else round((high - low) / step) + 1


def values_of(distribution: BaseDistribution) -> list[Value]:
    """Return all values that a parameter can have, to the bit as samplers draw them; it has an end of them."""
    if isinstance(distribution, CategoricalDistribution):
        return [str(choice) for choice in distribution.choices]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step, count = distribution.low, distribution.high, distribution.step, count_of(distribution)
    assert step is not None
    assert count is not None
    return [min(low + number * step, high) for number in range(count)]  # 7 * 0.1 is above 0.7
