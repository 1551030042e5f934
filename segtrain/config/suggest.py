"""Words for error messages: the nearest right spelling, and lists of what is accepted."""

from collections.abc import Sequence
from difflib import get_close_matches


def did_you_mean(word: str, accepted: Sequence[str], prefix: str = "") -> str:
    """Return ' Did you mean X?' for the nearest accepted word, or nothing."""
    near = get_close_matches(word, accepted, n=1, cutoff=0.6)
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def listed(words: Sequence[str], most: int = 24) -> str:
    """Return the words as 'a, b, c', shortened when there are many."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")
