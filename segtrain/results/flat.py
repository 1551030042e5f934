"""A config's settings as one level of dotted keys: all, or those alone that say what is trained."""

from collections.abc import Mapping
from typing import Any

Value = bool | int | float | str

# groups and keys that say how, where and under what name a run is done; what best.ckpt is chosen by is not among them
HOW = (
    "name",
    "tags",
    "test",
    "resume",
    "trust",
    "defaults",
    "paths",
    "logger",
    "callbacks",
    "loader.num_workers",
    *(f"checkpoint.{key}" for key in ("every_n_steps", "every_minutes", "keep")),
)


def says_what(key: str) -> bool:
    """Say whether a key or group says what is trained, and not only how that is done."""
    path = key.replace("/", ".")
    return not any(path == name or path.startswith(f"{name}.") for name in HOW)


def key_of(override: str) -> str:
    """Return the key or group of an override."""
    return override.lstrip("+~").partition("=")[0]


def settings_of(config: Mapping[str, Any]) -> dict[str, Value]:
    """Return {dotted key: value} of what a config says of the training itself, its seed among them."""
    return {key: value for key, value in flatten(dict(config)).items() if says_what(key)}


def flatten(node: Any, path: str = "") -> dict[str, Value]:
    """Return {dotted key: value} of a config's plain values; lists become text, nulls 'null'."""
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in flatten(value, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(node, bool | int | float | str):
        return {path: node}
    return {path: "null" if node is None else str(node)}
