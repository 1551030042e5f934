"""Words for error messages: the nearest right spelling, and lists of what is accepted."""

from collections.abc import Sequence
from difflib import get_close_matches


def did_you_mean(word: str, accepted: Sequence[str], prefix: str = "") -> str:
    """Return ' Did you mean X?' for the nearest accepted word, or the one of its initials (lr), or nothing."""
    initials = "".join(part[:1] for part in word.split("_"))
    near = get_close_matches(word, accepted, n=1, cutoff=0.6)
    near += [name for name in accepted if name == initials and "_" in word]
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def listed(words: Sequence[str], most: int = 24) -> str:
    """Return the words as 'a, b, c', shortened when there are many."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")
