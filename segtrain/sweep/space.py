"""A search space: what is searched, where, and under which condition."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from segtrain.errors import UserError
from segtrain.sweep.ranges import Value, count_of, values_of


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that is searched.

    Attributes:
        key: of the config, or a group.
        text: its range, in Hydra's words.
        distribution: the same for Optuna; choices are the texts that follow `key=`.
        when: (key, texts): it is searched only where that one has one of these choices; None for always.
        several: the key has other ranges under other conditions.
    """

    key: str
    text: str
    distribution: BaseDistribution
    when: tuple[str, tuple[str, ...]] | None = None
    several: bool = False

    @property
    def name(self) -> str:
        """By which the study knows it: its key, and its condition where the key has several ranges."""
        return f"{self.key}[{condition_of(self)}]" if self.several else self.key


@dataclass(frozen=True)
class Space:
    """The parameters of a search, conditions before what depends on them."""

    parameters: tuple[Parameter, ...]

    def draw(self, suggest: Callable[[str, BaseDistribution], Value]) -> dict[str, Value]:
        """Return {name: value} of the parameters that are searched together.

        Args:
            suggest: chooses a value of a distribution for a name.
        """
        drawn: dict[str, Value] = {}
        chosen: dict[str, Value] = {}  # the same by key
        for parameter in self.parameters:
            if parameter.when is None or chosen.get(parameter.when[0]) in parameter.when[1]:
                value = suggest(parameter.name, parameter.distribution)
                drawn[parameter.name] = chosen[parameter.key] = value
        return drawn

    def of(self, key: str) -> list[Parameter]:
        """Return the parameters of a key: one for each of its ranges."""
        return [parameter for parameter in self.parameters if parameter.key == key]

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Return the overrides of values, by name or by key, in the order of the parameters."""
        left = by_key(values)
        keys = dict.fromkeys(parameter.key for parameter in self.parameters)
        overrides = [_override(key, left.pop(key)) for key in keys if key in left]
        assert not left, f"not of this space: {', '.join(left)}"
        return overrides

    def texts(self) -> dict[str, str]:
        """Return each parameter's range and condition as text, by which two spaces are compared."""
        return {p.name: p.text + (f" when {condition_of(p)}" if p.when else "") for p in self.parameters}

    def grid(self) -> dict[str, list[Value]]:
        """Return all values of every parameter.

        Raises:
            UserError: if one has no end of values, or depends on another.
        """
        if conditional := [parameter.key for parameter in self.parameters if parameter.when]:
            raise UserError(
                f"sweep.space.{conditional[0]}: a grid takes no conditions; give another sampler, such as random"
            )
        return {parameter.key: _all_values(parameter) for parameter in self.parameters}


def by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: value} of one trial as {key: value}."""
    return {name.partition("[")[0]: value for name, value in values.items()}  # no key of Hydra's has a bracket


def _override(key: str, value: Value) -> str:
    return f"{key}={value!r}" if isinstance(value, float) else f"{key}={value}"


def condition_of(parameter: Parameter) -> str:
    """Return KEY=CHOICE,CHOICE of a parameter that has a condition."""
    assert parameter.when is not None
    return f"{parameter.when[0]}={','.join(parameter.when[1])}"


def choices_of(parameter: Parameter) -> list[str]:
    """Return the choices of a parameter; none where it has a range."""
    distribution = parameter.distribution
    return list(map(str, distribution.choices)) if isinstance(distribution, CategoricalDistribution) else []


def _all_values(parameter: Parameter) -> list[Value]:
    if count_of(parameter.distribution) is None:
        raise UserError(
            f"sweep.space.{parameter.key}: {parameter.text} has no end of values for a grid; give choice(...) or "
            "range(...), or another sampler"
        )
    return values_of(parameter.distribution)
