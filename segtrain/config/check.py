"""First layer of the check, before torch is imported: unknown, missing and mistyped keys of a command."""

import dataclasses
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segtrain.config.suggest import did_you_mean, listed
from segtrain.errors import UserError


def report(problems: list[str]) -> None:
    """Raise all problems as one UserError, if there are any."""
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        raise UserError(f"{len(problems)} problems in the configuration:\n{lines}")


def check_keys(cfg: DictConfig, schema: type) -> dict[str, Any]:
    """Compare the composed config with the command's schema; return it resolved and plain.

    Raises:
        UserError: with all problems at once.
    """
    missing = [f"{path}: missing; give {path}=..." for path in _missing(plain_config(cfg))]
    report(missing)
    try:
        values = _as_dict(OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from error
    problems = _compare(values, schema, path="")
    report(problems)
    return values


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the composed config as plain Python, its interpolations unresolved: what a run can be repeated from."""
    return _as_dict(OmegaConf.to_container(cfg))


def _as_dict(container: Any) -> dict[str, Any]:
    assert isinstance(container, dict)
    return container


def _compare(values: dict[str, Any], schema: type, path: str) -> list[str]:
    """Return the problems of one level: keys the schema lacks, keys it needs, values of another type."""
    fields = {field.name: field.type for field in dataclasses.fields(schema)}
    problems = [
        f"{path}{key}: no such key.{did_you_mean(str(key), list(fields))} (accepts: {listed(list(fields))})"
        for key in values
        if key not in fields
    ]
    problems += [f"{path}{key}: missing; give {path}{key}=..." for key in fields if key not in values]
    for key, type_ in fields.items():
        if key not in values:
            continue
        value = values[key]
        if isinstance(type_, type) and dataclasses.is_dataclass(type_):
            if isinstance(value, dict):
                problems += _compare(value, type_, f"{path}{key}.")
            else:
                names = [field.name for field in dataclasses.fields(type_)]
                problems.append(f"{path}{key}: {value!r} is not a group of keys (has: {listed(names)})")
        elif type_ is not Any:
            problems += _convert(values, key, type_, path)
    return problems


def _convert(values: dict[str, Any], key: str, type_: Any, path: str) -> list[str]:
    """Let OmegaConf convert a value to the field's type (`ema=off` is false), in place, or word its refusal."""
    holder = dataclasses.make_dataclass("holder", [("value", type_, dataclasses.field(default="???"))])
    try:
        merged = OmegaConf.merge(OmegaConf.structured(holder), {"value": values[key]})
    except OmegaConfBaseException as error:
        return [f"{path}{key}: {str(error).splitlines()[0]}"]
    converted = OmegaConf.to_container(merged, enum_to_str=True)
    values[key] = _as_dict(converted)["value"]
    return []


def _missing(values: Any, path: str = "") -> list[str]:
    """Return the paths of the values that are still '???'."""
    if isinstance(values, dict):
        return [name for key, value in values.items() for name in _missing(value, f"{path}.{key}".lstrip("."))]
    if isinstance(values, list):
        return [name for i, value in enumerate(values) for name in _missing(value, f"{path}[{i}]")]
    return [path] if isinstance(values, str) and values == "???" else []
