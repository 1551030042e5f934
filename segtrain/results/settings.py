"""What differed between runs? A group that was chosen is one column, and not the keys that come with the choice."""

import ast
from collections.abc import Iterator, Mapping, Sequence

from segtrain.results.collect import Group
from segtrain.results.flat import Value, says_what
from segtrain.results.runs import Run

EVERYWHERE = ("experiment", "debug", "local")  # groups whose options change keys of all others


class Settings:
    """One run's values under every name by which they can be a column.

    Args:
        run: any of a setting's; None for a trial that did not come as far.
        parameters: that were searched.
        by_target: name a choice by the class that it builds; for runs whose folder does not say which option it was.
    """

    def __init__(self, run: Run | None, parameters: Mapping[str, Value], *, by_target: bool) -> None:
        self.given = dict(_given(run.overrides if run else ())) | dict(parameters)
        self.settings = dict(run.settings) if run else {}
        chosen = dict(run.choices) if run else {}
        self.choices = dict(_targets(self.settings)) if by_target else chosen

    def value(self, name: str) -> Value | None:
        """Return the value of a key or group; None where there is none."""
        if (node := name.replace("/", ".")) in self.settings:
            return self.settings[node]
        return self.choices.get(name, self.given.get(name))


def columns(groups: Sequence[Group]) -> dict[str, list[Value | None]]:
    """Return {key or group that differs: its value in each of the settings}.

    Shown is what was given differently, what else differs and is not explained by a choice that is shown (it is, if
    it lies below the group and is the same wherever the choice is), and the choices themselves.
    """
    firsts = [group.runs[0] if group.runs else None for group in groups]
    by_target = any(run is not None and run.settings and not run.choices for run in firsts)
    rows = [Settings(run, group.parameters, by_target=by_target) for run, group in zip(firsts, groups, strict=True)]
    given = list(dict.fromkeys(name for row in rows for name in row.given))
    shown = [name for name in given if _differs(name, rows)]
    chosen = list(dict.fromkeys(name for row in rows for name in row.choices))
    shown += [
        name for name in chosen if name not in shown and _differs(name, rows) and not _explained(name, rows, shown)
    ]
    keys = list(dict.fromkeys(name for row in rows for name in row.settings))
    shown += [name for name in keys if name not in shown and _differs(name, rows) and not _explained(name, rows, shown)]
    return {name: [row.value(name) for row in rows] for name in shown}


def _given(overrides: Sequence[str]) -> Iterator[tuple[str, Value]]:
    for word in overrides:
        key, sign, text = word.lstrip("+~").partition("=")
        if sign and key != "seed" and says_what(key) and not key.startswith("hydra."):
            yield key, _typed(text)


def _typed(text: str) -> Value:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _targets(settings: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        node, _, last = key.rpartition(".")
        if last == "_target_" and node.count(".") <= 1:
            yield node.replace(".", "/"), str(value).rpartition(".")[2]


def _differs(name: str, rows: Sequence[Settings]) -> bool:
    values = {repr(row.value(name)) for row in rows if row.settings or row.value(name) is not None}
    return len(values) > 1


def _explained(name: str, rows: Sequence[Settings], shown: Sequence[str]) -> bool:
    """Say whether choices that are shown make this value: it is the same wherever they are."""
    path = name.replace("/", ".")
    groups = [group for group in shown if _governs(group, path) and any(group in row.choices for row in rows)]
    if not groups:
        return False
    found: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        if row.settings:
            found.setdefault(tuple(str(row.value(group)) for group in groups), set()).add(repr(row.value(name)))
    return all(len(values) == 1 for values in found.values())


def _governs(group: str, path: str) -> bool:
    return group in EVERYWHERE or path.startswith(group.replace("/", ".") + ".")
