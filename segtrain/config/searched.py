"""Which overrides of the sweep command are ranges to search, and not values?"""

import dataclasses
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from segtrain.config.quoting import quote
from segtrain.config.schema import SweepConfig, TrainConfig
from segtrain.errors import UserError

SPACE = "sweep.space."
WORD = re.compile(r"(choice|range|interval|tag|int|float|shuffle|sort|glob)\(")
OWN = {field.name for field in dataclasses.fields(SweepConfig)} - {
    field.name for field in dataclasses.fields(TrainConfig)
}
NOT_SEARCHED = {
    "seed": "give seeds=N for N trainings of each trial",
    "test": "trials are never scored on the test split",
    "resume": "a search goes on by its own command, and its trials with it",
    "paths": "every trial has a folder in the search's",
}


def gather_ranges(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with all ranges in one override of `sweep.ranges`: Hydra takes them with -m only.

    `optimizer.lr=interval(0.1,1)` and `model=unet,fcn` add a parameter to the space, or give one another range;
    `~sweep.space.KEY` takes one out.

    Args:
        arguments: flags and overrides, paths among them quoted.

    Raises:
        UserError: for a range of what cannot be searched.
    """
    kept: list[str] = []
    found: dict[str, str | None] = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key.startswith(f"~{SPACE}"):
            found[key.removeprefix(f"~{SPACE}")] = None
        elif argument.startswith("-") or not _is_range(argument, text):
            kept.append(argument)
        elif key == "gpus":
            kept.append(argument)  # a list of devices
        else:
            found[_searchable(re.sub(rf"^\+*{re.escape(SPACE)}", "", key), argument)] = text
    if not found:
        return kept
    entries = [f"{key}:{'null' if text is None else quote(text)}" for key, text in found.items()]
    return [*kept, f"++sweep.ranges={{{','.join(entries)}}}"]


def _is_range(argument: str, text: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(argument).is_sweep_override())
    except HydraException:
        return WORD.match(text) is not None  # a range that is not well written, which the space explains


def _searchable(key: str, argument: str) -> str:
    first = re.split(r"[./@]", key.lstrip("+"))[0]
    if first in OWN:
        raise UserError(f"{key}: {argument!r} is a range, and a setting of the search itself takes one value")
    if first == "hydra":
        raise UserError(f"{key}: Hydra's own settings are not searched; give one value")
    if first in NOT_SEARCHED:
        raise UserError(f"{key}: it is not searched ({argument!r}); {NOT_SEARCHED[first]}")
    return key
