"""A search space as it is written, in Hydra's override words: choice, range, interval, and tag(log, ...)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError, first_line
from segtrain.sweep.conditions import holding, in_order, refuse_unknown, without_range
from segtrain.sweep.ranges import WORDS, distribution_of
from segtrain.sweep.space import Parameter, Space, choices_of

Condition = tuple[str, tuple[str, ...]]


def parse_space(words: Mapping[str, Any], typed: Mapping[str, str | None] | None = None) -> Space:
    """Return the space of {key: range}, or {key: {range: ..., when: KEY=CHOICE}} where it depends on another choice.

    `when: KEY=CHOICE,CHOICE` holds for each of the choices, and {key: {when: {KEY=CHOICE: range, ...}}} has a range
    for each condition. {optimizer: {lr: range}} is the same as {optimizer.lr: range}, and a key whose range is null is
    not searched.

    Args:
        words: of a file.
        typed: {key: range} of the command line. They add to the file's, or take the place of its ranges under their
            conditions; null takes one out. Where choices become fewer, what depends on the others is not searched.

    Raises:
        UserError: naming the key whose range is no range, runs the wrong way round, or depends on what is not there.
    """
    flat = _flatten(words)
    _refuse_twice([key for key, _ in flat])
    of_file = {key: _parameters(key, value) for key, value in flat}
    given = _by_place(of_file, typed or {})
    added = [parse_range(key, text) for key, text in given.items() if key not in of_file and text is not None]
    refuse_unknown([parameter for listed in of_file.values() for parameter in listed] + added)
    kept = {key: _replaced(key, listed, given[key]) if key in given else listed for key, listed in of_file.items()}
    parameters = [parameter for listed in kept.values() for parameter in listed] + added
    if not parameters:
        raise UserError(f"sweep.space: nothing to search; give keys of the config their {WORDS}")
    space = Space(tuple(holding(parameters, [key for key, text in given.items() if text is not None])))
    several = [replace(parameter, several=len(space.of(parameter.key)) > 1) for parameter in space.parameters]
    return Space(tuple(in_order(several)))


def left_out(words: Mapping[str, Any], typed: Mapping[str, str | None], space: Space) -> list[str]:
    """Return a sentence for each key of a file that is not searched, or not for all choices it has a condition on.

    Args:
        words: as of `parse_space`.
        typed: as well.
        space: which it returned.
    """
    sentences = []
    taken_out = {key.lstrip("+") for key, text in typed.items() if text is None}
    for key, value in _flatten(words):
        when = value.get("when") if isinstance(value, Mapping) else None
        if when is None or key.lstrip("+") in taken_out:
            continue
        conditions = [_condition(key, each) for each in (when if isinstance(when, Mapping) else [when])]
        sentences.append(without_range(key, conditions, space))
    return [sentence for sentence in sentences if sentence]


def _by_place(of_file: Mapping[str, Any], typed: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return typed ranges by the file's spelling of their keys, with a + or without.

    One whose key is taken out too is not the file's any more: it has none of its conditions.
    """
    spelled = {key.lstrip("+"): key for key in of_file}
    taken_out = {key for key, text in typed.items() if text is None}
    found = {
        key if text is not None and key.lstrip("+") in taken_out else spelled.get(key.lstrip("+"), key): text
        for key, text in typed.items()
    }
    for key, text in found.items():
        if text is None and key not in of_file:
            known = list(of_file)
            raise UserError(
                f"~sweep.space.{key}: it is not searched.{did_you_mean(key, known)} (searched: {', '.join(known)})"
            )
    return found


def _replaced(key: str, parameters: list[Parameter], text: str | None) -> list[Parameter]:
    """Return a typed range under all conditions of those that it takes the place of; nothing for null."""
    if text is None:
        return []
    conditions = [parameter.when for parameter in parameters if parameter.when is not None]
    choices = tuple(choice for _, listed in conditions for choice in listed)
    return [replace(parse_range(key, text), when=(conditions[0][0], choices) if conditions else None)]


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
    if not isinstance(value, Mapping):
        return [parse_range(key, value)]
    if unknown := value.keys() - {"range", "when"}:
        raise UserError(f"sweep.space.{key}.{sorted(unknown)[0]}: no such key (takes range and when)")
    text, when = value.get("range"), value.get("when")
    if isinstance(when, Mapping):
        if text is not None:
            raise UserError(f"sweep.space.{key}: a range, and ranges by condition below `when`; leave one out")
        return _by_condition(key, when)
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


def _condition(key: str, when: object) -> Condition:
    """Return (key, choices) of KEY=CHOICE,CHOICE."""
    other, _, choice = (part.strip() for part in str(when).partition("="))
    if not other or not choice or not isinstance(when, str):
        raise UserError(f"sweep.space.{key}.when: {when!r} is no KEY=CHOICE, such as loss=focal")
    listed = choice if choice.startswith("choice(") else f"choice({choice})"
    return other, tuple(choices_of(parse_range(other, listed)))  # a choice is written as the parameter's are
