"""A search space as it is written, in Hydra's override words: choice, range, interval, and tag(log, ...)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution

from segtrain.config.searched import TYPED
from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError, first_line
from segtrain.sweep.ranges import WORDS, distribution_of
from segtrain.sweep.space import Parameter, Space, choices_of, condition_of


def parse_space(words: Mapping[str, Any]) -> Space:
    """Return the space of {key: range}, or {key: {range: ..., when: KEY=CHOICE}} where it depends on another choice.

    `when: KEY=CHOICE,CHOICE` holds for each of the choices, and {key: {when: {KEY=CHOICE: range, ...}}} has a range
    for each condition. {optimizer: {lr: range}} is the same as {optimizer.lr: range}, and a key whose range is null is
    not searched. A range that was typed takes the place of a file's, and where it has fewer choices, conditions on the
    others have no meaning.

    Raises:
        UserError: naming the key whose range is no range, runs the wrong way round, or depends on what is not there.
    """
    flat = _flatten(words)
    if not flat:
        raise UserError(f"sweep.space: nothing to search; give keys of the config their {WORDS}")
    _refuse_twice([key for key, _ in flat])
    parameters = [parameter for key, value in flat for parameter in _parameters(key, value)]
    typed = {key for key, value in flat if isinstance(value, Mapping) and value.get(TYPED) is not None}
    space = Space(tuple(_conditions_checked(parameters, loose=typed)))
    several = [replace(parameter, several=len(space.of(parameter.key)) > 1) for parameter in space.parameters]
    return Space(tuple(_in_order(Space(tuple(several)))))


def uncovered(words: Mapping[str, Any], space: Space) -> list[str]:
    """Return a sentence for each key that has ranges by condition, and no range for some choices.

    Args:
        words: as of `parse_space`.
        space: which it returned.
    """
    sentences = []
    for key, value in _flatten(words):
        conditions = [parameter.when for parameter in space.of(key) if parameter.when is not None]
        if not conditions or not isinstance(value, Mapping) or not isinstance(value["when"], Mapping):
            continue
        other, has = conditions[0][0], {choice for _, choices in conditions for choice in choices}
        left = [choice for above in space.of(other) for choice in choices_of(above) if choice not in has]
        if left:
            sentences.append(f"{key}: no range for {other}={','.join(left)}, whose trials have the config's value")
    return sentences


def parse_range(key: str, text: object, where: str = "") -> Parameter:
    """Return the parameter of one override such as `optimizer.lr=interval(0, 1)`, split at its first "=".

    Args:
        key: of the config.
        text: the range.
        where: what follows the key in a message.

    Raises:
        UserError: as `parse_space`.
    """
    if isinstance(text, Mapping | list):
        raise UserError(f"sweep.space.{key}{where}: {text!r} is no range; give {WORDS}")
    text = str(text)
    try:
        override = _parsed(key, text)
        return Parameter(key, text, distribution_of(override))
    except HydraException as error:
        raise UserError(
            f"sweep.space.{key}{where}: {text!r} is no range: {first_line(error)} (takes {WORDS})"
        ) from error
    except ValueError as error:
        raise UserError(f"sweep.space.{key}{where}: {text}: {error}") from error


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
        if isinstance(value, Mapping) and not value.keys() & {"range", "when", TYPED}:
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
    if not isinstance(value, Mapping):
        return [parse_range(key, value)]
    if unknown := value.keys() - {"range", "when", TYPED}:
        raise UserError(f"sweep.space.{key}.{sorted(unknown)[0]}: no such key (takes range and when)")
    when, typed = value.get("when"), value.get(TYPED)
    if isinstance(when, Mapping):
        if value.get("range") is not None:
            raise UserError(f"sweep.space.{key}: a range, and ranges by condition below `when`; leave one out")
        parameters = _by_condition(key, when)
        if typed is None:
            return parameters
        conditions = [parameter.when for parameter in parameters if parameter.when is not None]
        choices = tuple(choice for _, listed in conditions for choice in listed)
        return [replace(parse_range(key, typed), when=(conditions[0][0], choices))]
    text = value.get("range") if typed is None else typed
    if text is None:
        raise UserError(f"sweep.space.{key}.range: missing; give its {WORDS}")
    return [replace(parse_range(key, text), when=None if when is None else _condition(key, when))]


def _by_condition(key: str, ranges: Mapping[str, Any]) -> list[Parameter]:
    """Return a parameter for each condition of {KEY=CHOICE: range}."""
    given = {when: text for when, text in ranges.items() if text is not None}
    if not given:
        raise UserError(f"sweep.space.{key}.when: it has no range; give each condition its {WORDS}")
    conditions = [_condition(key, when) for when in given]
    first = conditions[0][0]
    if others := {other for other, _ in conditions} - {first}:
        raise UserError(
            f"sweep.space.{key}.when: ranges by {first} and by {sorted(others)[0]}, which may hold at the same time; "
            "give conditions of one key"
        )
    choices = [choice for _, listed in conditions for choice in listed]
    if twice := next((choice for choice in choices if choices.count(choice) > 1), None):
        raise UserError(f"sweep.space.{key}.when: two ranges for {first}={twice}; leave one out")
    return [
        replace(parse_range(key, text, f".when.{when}"), when=condition)
        for (when, text), condition in zip(given.items(), conditions, strict=True)
    ]


def _condition(key: str, when: object) -> tuple[str, tuple[str, ...]]:
    """Return (key, choices) of KEY=CHOICE,CHOICE."""
    other, _, choice = (part.strip() for part in str(when).partition("="))
    if not other or not choice or not isinstance(when, str):
        raise UserError(f"sweep.space.{key}.when: {when!r} is no KEY=CHOICE, such as loss=focal")
    listed = choice if choice.startswith("choice(") else f"choice({choice})"
    return other, tuple(choices_of(parse_range(other, listed)))  # a choice is written as the parameter's are


def _conditions_checked(parameters: Sequence[Parameter], *, loose: set[str]) -> list[Parameter]:
    """Return the parameters whose conditions can hold.

    Args:
        parameters: all of them.
        loose: keys of which a condition may name choices that they do not have: those never hold.

    Raises:
        UserError: for a condition on what is not searched, or on a choice that is not there.
    """
    while True:
        space = Space(tuple(parameters))
        kept = [checked for parameter in parameters if (checked := _checked(parameter, space, loose)) is not None]
        if len(kept) == len(parameters):
            return kept
        loose = loose | {parameter.key for parameter in parameters if _checked(parameter, space, loose) is None}
        parameters = kept


def _checked(parameter: Parameter, space: Space, loose: set[str]) -> Parameter | None:
    """Return a parameter without a condition that always holds; None where it never does."""
    if parameter.when is None:
        return parameter
    key, choices = parameter.when
    where = f"sweep.space.{parameter.key}.when: {condition_of(parameter)}"
    above = space.of(key)
    if not above and key in loose:
        return None
    if not above:
        searched = dict.fromkeys(parameter.key for parameter in space.parameters)
        raise UserError(
            f"{where}, and {key} is not searched (searched: {', '.join(searched)}); {key}=choice({choices[0]}) keeps it"
        )
    if not all(isinstance(other.distribution, CategoricalDistribution) for other in above):
        raise UserError(f"{where}, and {key} has no choices but a range; a condition is one of choice(...)")
    has = [choice for other in above for choice in choices_of(other)]
    unknown = [choice for choice in choices if choice not in has]
    if unknown and key not in loose:
        raise UserError(
            f"{where}, and {key} has no choice {unknown[0]}.{did_you_mean(unknown[0], has)} (has: {', '.join(has)})"
        )
    left = tuple(choice for choice in choices if choice in has)
    if set(left) == set(has) and all(other.when is None for other in above):
        return replace(parameter, when=None)
    return replace(parameter, when=(key, left)) if left else None


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
