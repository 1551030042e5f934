"""A search space as it is written, in Hydra's override words: choice, range, interval, and tag(log, ...)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution

from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError, first_line
from segtrain.sweep.ranges import WORDS, distribution_of
from segtrain.sweep.space import Parameter, Space, choices_of, condition_of


def parse_space(words: Mapping[str, Any]) -> Space:
    """Return the space of {key: range}, or {key: {range: ..., when: KEY=CHOICE}} where it depends on another choice.

    `when: KEY=CHOICE,CHOICE` holds for each of the choices, and {key: {when: {KEY=CHOICE: range, ...}}} has a range
    for each condition.
    {optimizer: {lr: range}} is the same as {optimizer.lr: range}, and a key whose range is null is not searched.

    Raises:
        UserError: naming the key whose range is no range, runs the wrong way round, or depends on what is not there.
    """
    flat = _flatten(words)
    if not flat:
        raise UserError(f"sweep.space: nothing to search; give keys of the config their {WORDS}")
    parameters = [parameter for key, value in flat for parameter in _parameters(key, value)]
    _refuse_twice([key for key, _ in flat])
    space = Space(tuple(parameters))
    for parameter in parameters:
        _check_condition(parameter, space)
    return Space(tuple(_in_order(space)))


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


def _parameters(key: str, value: Any) -> list[Parameter]:
    """Return the parameter of a key, or one for each condition that has a range of its own."""
    if not isinstance(value, Mapping) or not isinstance(value.get("when"), Mapping):
        return [_parameter(key, value)]
    if value.get("range") is not None:  # given on the command line, it takes the place of theirs
        return [_parameter(key, {**value, "when": None})]
    given = {when: text for when, text in value["when"].items() if text is not None}
    if not given:
        raise UserError(f"sweep.space.{key}.when: it has no range; give each condition its {WORDS}")
    parameters = [_parameter(key, {**value, "range": text, "when": when}) for when, text in given.items()]
    conditions = [parameter.when for parameter in parameters if parameter.when is not None]
    if others := {other for other, _ in conditions[1:]} - {conditions[0][0]}:
        raise UserError(
            f"sweep.space.{key}.when: ranges by {conditions[0][0]} and by {sorted(others)[0]}, which may hold at the "
            "same time; give conditions of one key"
        )
    choices = [choice for _, listed in conditions for choice in listed]
    if twice := next((choice for choice in choices if choices.count(choice) > 1), None):
        raise UserError(f"sweep.space.{key}.when: two ranges for {conditions[0][0]}={twice}; leave one out")
    return [replace(parameter, several=len(parameters) > 1) for parameter in parameters]


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


def _check_condition(parameter: Parameter, space: Space) -> None:
    if parameter.when is None:
        return
    key, choices = parameter.when
    where = f"sweep.space.{parameter.key}.when: {condition_of(parameter)}"
    above = space.of(key)
    if not above:
        searched = dict.fromkeys(parameter.key for parameter in space.parameters)
        raise UserError(f"{where}, and {key} is not searched (searched: {', '.join(searched)})")
    has = [choice for other in above for choice in choices_of(other)]
    if not all(isinstance(other.distribution, CategoricalDistribution) for other in above):
        raise UserError(f"{where}, and {key} has no choices but a range; a condition is one of choice(...)")
    if unknown := [choice for choice in choices if choice not in has]:
        raise UserError(
            f"{where}, and {key} has no choice {unknown[0]}.{did_you_mean(unknown[0], has)} (has: {', '.join(has)})"
        )


def _in_order(space: Space) -> list[Parameter]:
    """Return conditions before what depends on them, and groups before the keys in them."""
    ordered: list[Parameter] = []

    def add(parameter: Parameter, above: tuple[str, ...]) -> None:
        if parameter.key in above:
            raise UserError(f"sweep.space.{parameter.key}.when: depends on itself, by {' and '.join(above)}")
        if parameter.when is not None:
            for other in space.of(parameter.when[0]):
                add(other, (*above, parameter.key))
        if parameter not in ordered:
            ordered.append(parameter)

    for parameter in space.parameters:
        add(parameter, ())
    return ordered
