"""A search space in Hydra's override words: choice, range, interval, and tag(log, ...)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution

from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError, first_line
from segtrain.sweep.ranges import WORDS, Value, count_of, distribution_of, values_of


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that is searched.

    Attributes:
        key: of the config, or a group.
        text: its range, in Hydra's words.
        distribution: the same for Optuna; choices are the texts that follow `key=`.
        when: (key, texts): it is searched only where that parameter has one of these choices; None for always.
    """

    key: str
    text: str
    distribution: BaseDistribution
    when: tuple[str, tuple[str, ...]] | None = None

    def override(self, value: Value) -> str:
        """Return the override that gives it a value."""
        return f"{self.key}={value!r}" if isinstance(value, float) else f"{self.key}={value}"


@dataclass(frozen=True)
class Space:
    """The parameters of a search, conditions before what depends on them."""

    parameters: tuple[Parameter, ...]

    def draw(self, suggest: Callable[[str, BaseDistribution], Value]) -> dict[str, Value]:
        """Return values of the parameters that are searched together.

        Args:
            suggest: chooses a value of a distribution for a key.
        """
        drawn: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.when is None or drawn.get(parameter.when[0]) in parameter.when[1]:
                drawn[parameter.key] = suggest(parameter.key, parameter.distribution)
        return drawn

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Return the overrides of drawn values, groups before the keys in them."""
        return [parameter.override(values[parameter.key]) for parameter in self.parameters if parameter.key in values]

    def texts(self) -> dict[str, str]:
        """Return each parameter's range and condition as text, by which two spaces are compared."""
        return {p.key: p.text + (f" when {p.when[0]}={','.join(p.when[1])}" if p.when else "") for p in self.parameters}

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


def parse_space(words: Mapping[str, Any]) -> Space:
    """Return the space of {key: range}, or {key: {range: ..., when: KEY=CHOICE}} where it depends on another choice.

    `when: KEY=CHOICE,CHOICE` holds for each of the choices. {optimizer: {lr: range}} is the same as
    {optimizer.lr: range}, and a key whose range is null is not searched.

    Raises:
        UserError: naming the key whose range is no range, runs the wrong way round, or depends on what is not there.
    """
    flat = _flatten(words)
    if not flat:
        raise UserError(f"sweep.space: nothing to search; give keys of the config their {WORDS}")
    parameters = [_parameter(key, value) for key, value in flat]
    _refuse_twice([key for key, _ in flat])
    by_key = {parameter.key: parameter for parameter in parameters}
    for parameter in parameters:
        _check_condition(parameter, by_key)
    return Space(tuple(_in_order(parameters, by_key)))


def parse_range(key: str, text: str) -> Parameter:
    """Return the parameter of one override such as `optimizer.lr=interval(0, 1)`, split at its first "=".

    Raises:
        UserError: as `parse_space`.
    """
    try:
        override = _parsed(key, text)
        return Parameter(key, text, distribution_of(override))
    except HydraException as error:
        raise UserError(f"sweep.space.{key}: {text!r} is no range: {first_line(error)} (takes {WORDS})") from error
    except ValueError as error:
        raise UserError(f"sweep.space.{key}: {text}: {error}") from error


def _parsed(key: str, text: str) -> Override:
    """Return Hydra's reading; its `choice` refuses null, which a list without the word may have."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(f"{key}={text}")
    except HydraException:
        if text.startswith("choice(") and text.endswith(")"):
            inside = text.removeprefix("choice(").removesuffix(")")
            listed = parser.parse_override(f"{key}={inside},{inside}")  # twice, as one alone is no list
            if isinstance(listed.value(), ChoiceSweep):
                return listed
        raise


def _flatten(words: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Return (dotted key, range) of nested mappings, without those whose range is null."""
    flat = []
    for key, value in words.items():
        if isinstance(value, Mapping) and not value.keys() & {"range", "when"}:
            flat += _flatten(value, f"{above}{key}.")
        elif value is not None:
            flat.append((f"{above}{key}", value))
    return flat


def _refuse_twice(keys: list[str]) -> None:
    plain = [key.lstrip("+") for key in keys]
    if twice := next((key for key in plain if plain.count(key) > 1), None):
        raise UserError(f"sweep.space.{twice}: it is there twice; leave one out")


def _parameter(key: str, value: Any) -> Parameter:
    if not isinstance(value, Mapping):
        return parse_range(key, str(value))
    if unknown := value.keys() - {"range", "when"}:
        raise UserError(f"sweep.space.{key}.{sorted(unknown)[0]}: no such key (takes range and when)")
    if "range" not in value:
        raise UserError(f"sweep.space.{key}.range: missing; give its {WORDS}")
    parameter = parse_range(key, str(value["range"]))
    if value.get("when") is None:
        return parameter
    other, equals, choice = str(value["when"]).partition("=")
    if not equals:
        raise UserError(f"sweep.space.{key}.when: {value['when']!r} is no KEY=CHOICE, such as loss=focal")
    other, choice = other.strip(), choice.strip()
    listed = choice if choice.startswith("choice(") else f"choice({choice})"
    distribution = parse_range(other, listed).distribution  # so that a choice is written as the parameter's are
    assert isinstance(distribution, CategoricalDistribution)
    choices = tuple(map(str, distribution.choices))
    return Parameter(key, parameter.text, parameter.distribution, (other, choices))


def _check_condition(parameter: Parameter, by_key: Mapping[str, Parameter]) -> None:
    if parameter.when is None:
        return
    key, choices = parameter.when
    where = f"sweep.space.{parameter.key}.when: {key}={','.join(choices)}"
    if key not in by_key:
        raise UserError(f"{where}, and {key} is not searched (searched: {', '.join(by_key)})")
    distribution = by_key[key].distribution
    if not isinstance(distribution, CategoricalDistribution):
        raise UserError(f"{where}, and {key} has no choices but a range; a condition is one of choice(...)")
    has = [str(choice) for choice in distribution.choices]
    if unknown := [choice for choice in choices if choice not in has]:
        raise UserError(
            f"{where}, and {key} has no choice {unknown[0]}.{did_you_mean(unknown[0], has)} (has: {', '.join(has)})"
        )


def _in_order(parameters: list[Parameter], by_key: Mapping[str, Parameter]) -> list[Parameter]:
    """Return conditions before what depends on them, and groups before the keys in them."""
    ordered: list[Parameter] = []

    def add(parameter: Parameter, above: tuple[str, ...]) -> None:
        if parameter.key in above:
            raise UserError(f"sweep.space.{parameter.key}.when: depends on itself, by {' and '.join(above)}")
        if parameter.when is not None:
            add(by_key[parameter.when[0]], (*above, parameter.key))
        if parameter not in ordered:
            ordered.append(parameter)

    for parameter in parameters:
        add(parameter, ())
    return ordered


def _all_values(parameter: Parameter) -> list[Value]:
    if count_of(parameter.distribution) is None:
        raise UserError(
            f"sweep.space.{parameter.key}: {parameter.text} has no end of values for a grid; give choice(...) or "
            "range(...), or another sampler"
        )
    return values_of(parameter.distribution)
