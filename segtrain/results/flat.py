"""A nested config as one level of dotted keys."""

from typing import Any

Value = bool | int | float | str


def flatten(node: Any, path: str = "") -> dict[str, Value]:
    """Return {dotted key: value} of a config's plain values; lists become text, nulls 'null'."""
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in flatten(value, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(node, bool | int | float | str):
        return {path: node}
    return {path: "null" if node is None else str(node)}
