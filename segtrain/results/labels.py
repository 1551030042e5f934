"""Short headings for dotted keys: the fewest last parts by which one is told from the others."""

from collections.abc import Iterable


def short_labels(keys: Iterable[str]) -> dict[str, str]:
    """Return {key: heading}: `optimizer.lr` is lr unless another key ends in lr too."""
    parts = {key: key.replace("/", ".").split(".") for key in keys}
    labels: dict[str, str] = {}
    for key, words in parts.items():
        others = [other for name, other in parts.items() if name != key]
        count = next((n for n in range(1, len(words)) if not any(o[-n:] == words[-n:] for o in others)), len(words))
        labels[key] = ".".join(words[-count:]) if count < len(words) else key
    return labels
