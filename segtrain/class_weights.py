"""Class weights by name: which words a loss's `class_weights` may be, and the numbers in their place."""

from collections.abc import Callable, Iterator
from typing import Any

from segtrain.config.suggest import did_you_mean
from segtrain.errors import UserError

WEIGHTINGS = ("inverse_frequency", "median_frequency", "enet", "effective_number")
# SegNet's; a class of median size has weight 1, so the loss keeps its scale
AUTO = "median_frequency"
WORDS = ("auto", *WEIGHTINGS)


def weighting_problems(loss_node: Any, path: str = "loss") -> list[str]:
    """Return a sentence for each `class_weights` of a loss that is a word and none of the accepted ones.

    Args:
        loss_node: the loss's part of the config, with losses inside losses.
        path: its key.
    """
    return [
        f"{where}: {word!r} is no weighting.{did_you_mean(word, WORDS)} (accepts: {', '.join(WORDS)}, one number a "
        "class, or null)"
        for where, word in _words(loss_node, path)
        if word not in WORDS
    ]


def resolve_class_weights(loss_node: dict[str, Any], weights_of: Callable[[str], list[float]]) -> dict[str, Any]:
    """Return a loss's config with numbers in the place of each word; the given one stays as it is.

    Args:
        loss_node: the loss's part of the config, with losses inside losses.
        weights_of: gives one weight a class for a name of `WEIGHTINGS`; called once a name, and never for a loss
            without words.

    Raises:
        UserError: if a word is not an accepted one.
    """
    if problems := weighting_problems(loss_node):
        raise UserError("\n".join(problems))
    names = {AUTO if word == "auto" else word for _, word in _words(loss_node, "loss")}
    weights = {name: weights_of(name) for name in sorted(names)}
    resolved: dict[str, Any] = _replaced(loss_node, weights)
    return resolved


def _words(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, word) of every `class_weights` that is a word."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "class_weights" and isinstance(value, str):
                yield f"{path}.{key}", value
            else:
                yield from _words(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _words(value, f"{path}[{index}]")


def _replaced(node: Any, weights: dict[str, list[float]]) -> Any:
    if isinstance(node, dict):
        return {
            key: list(weights[AUTO if value == "auto" else value])
            if key == "class_weights" and isinstance(value, str)
            else _replaced(value, weights)
            for key, value in node.items()
        }
    return [_replaced(value, weights) for value in node] if isinstance(node, list) else node
