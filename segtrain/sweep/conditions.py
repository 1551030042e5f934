"""Which conditions of a search space can hold, and in what order are its parameters drawn?"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from optuna.distributions import CategoricalDistribution

from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError
from segtrain.sweep.space import Parameter, Space, choices_of, condition_of


def refuse_unknown(parameters: Sequence[Parameter]) -> None:
    """Refuse conditions on what is not searched, or on a choice that is not there.

    Raises:
        UserError: naming the key, the condition and what there is.
    """
    space = Space(tuple(parameters))
    for parameter in parameters:
        if parameter.when is not None:
            _refuse_unknown(parameter, *parameter.when, space)


def _refuse_unknown(parameter: Parameter, key: str, choices: Sequence[str], space: Space) -> None:
    where = f"sweep.space.{parameter.key}.when: {condition_of(parameter)}"
    above = space.of(key)
    if not above:
        searched = ", ".join(dict.fromkeys(parameter.key for parameter in space.parameters))
        raise UserError(
            f"{where}, and {key} is not searched (searched: {searched}); {key}=choice(...) of one keeps it at that"
        )
    if not all(isinstance(other.distribution, CategoricalDistribution) for other in above):
        raise UserError(f"{where}, and {key} has no choices but a range; a condition is one of choice(...)")
    has = _choices(above)
    if unknown := [choice for choice in choices if _as_in(has, choice) is None]:
        raise UserError(
            f"{where}, and {key} has no choice {unknown[0]}.{did_you_mean(unknown[0], has)} (has: {', '.join(has)})"
        )


def holding(parameters: Sequence[Parameter], typed: Collection[str]) -> list[Parameter]:
    """Return the parameters whose conditions can hold; those that always do have none.

    Args:
        parameters: whose conditions named choices that there were, before typed ranges took the place of some.
        typed: keys of typed ranges, which are not left out in silence.

    Raises:
        UserError: for a condition on what is not searched any more, or a typed range that no trial would have.
    """
    loose = set(typed)
    while True:
        space = Space(tuple(parameters))
        kept: list[Parameter] = []
        for parameter in parameters:
            if parameter.when is not None and parameter.when[0] not in loose:
                _refuse_unknown(parameter, *parameter.when, space)
            if (narrowed := _narrowed(parameter, space)) is not None:
                kept.append(narrowed)
            elif parameter.key in typed:
                only = condition_of(parameter)
                raise UserError(f"{parameter.key}: its range is only for {only}, which no trial has; leave it out")
        if kept == list(parameters):
            return kept
        loose |= {parameter.key for parameter in parameters}  # what becomes fewer may take others with it
        parameters = kept


def _narrowed(parameter: Parameter, space: Space) -> Parameter | None:
    """Return a parameter with those choices of its condition that there are; None without any."""
    if parameter.when is None:
        return parameter
    key, choices = parameter.when
    above = space.of(key)
    has = _choices(above)
    left = tuple(found for choice in choices if (found := _as_in(has, choice)) is not None)
    if not left:
        return None
    always = set(left) == set(has) and all(other.when is None for other in above)
    return replace(parameter, when=None if always else (key, left))


def _choices(parameters: Sequence[Parameter]) -> list[str]:
    return list(dict.fromkeys(choice for parameter in parameters for choice in choices_of(parameter)))


def _as_in(choices: Sequence[str], wanted: str) -> str | None:
    """Return the choice that is this one, else one that is but for quotes; None if there is none."""
    return wanted if wanted in choices else next((choice for choice in choices if _bare(choice) == _bare(wanted)), None)


def _bare(choice: str) -> str:
    return choice[1:-1] if len(choice) > 1 and choice[0] == choice[-1] and choice[0] in "'\"" else choice


def without_range(key: str, conditions: Sequence[tuple[str, tuple[str, ...]]], space: Space) -> str:
    """Return a sentence if a key is searched in no trial, or its ranges by condition leave choices out; else nothing.

    Args:
        key: of a parameter with conditions.
        conditions: all that it was given.
        space: that came of it.
    """
    other = conditions[0][0]
    named = [choice for _, choices in conditions for choice in choices]
    if not space.of(key):
        return f"{key}: searched only where {other}={','.join(named)}, so in no trial"
    left = [choice for choice in _choices(space.of(other)) if _as_in(named, choice) is None]
    if not left or len(conditions) < 2:
        return ""
    return f"{key}: no range for {other}={','.join(left)}, whose trials have the config's value"


def in_order(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return conditions before what depends on them.

    Raises:
        UserError: if one depends on itself.
    """
    space = Space(tuple(parameters))
    ordered: list[Parameter] = []

    def add(parameter: Parameter, above: tuple[str, ...]) -> None:
        if parameter.key in above:
            raise UserError(f"sweep.space.{parameter.key}.when: depends on itself, by {' and '.join(above)}")
        if parameter.when is not None:
            for other in space.of(parameter.when[0]):
                add(other, (*above, parameter.key))
        if parameter not in ordered:
            ordered.append(parameter)

    for parameter in parameters:
        add(parameter, ())
    return ordered
