"""Whether the first problem of a listing ends it, or all of them are collected."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from segtrain.errors import DataError


@dataclass(frozen=True)
class ListingProblem:
    """What is wrong with the files of a data set before any is read.

    Args:
        kind: a word for it, such as "missing_mask".
        text: the sentence, which may name a few of the files only.
        files: all files that it concerns.
        names: of the samples that are left out because of it, where they have names.
        warning: training is possible all the same.
    """

    kind: str
    text: str
    files: tuple[str, ...]
    names: tuple[str, ...] = ()
    warning: bool = False


_COLLECTED: ContextVar[list[ListingProblem] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[ListingProblem]]:
    """Let adapters go on behind a problem with the files that are left; yield what they found."""
    found: list[ListingProblem] = []
    token = _COLLECTED.set(found)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


def raise_or_collect(error: DataError, *, kind: str, files: Sequence[Path], names: Sequence[str] = ()) -> None:
    """Remember a problem inside `collecting`; elsewhere it ends the listing.

    Args:
        error: its sentence.
        kind: a word for it.
        files: all that it concerns.
        names: of the samples that are left out because of it.

    Raises:
        DataError: the one given, outside of `collecting`.
    """
    found = _COLLECTED.get()
    if found is None:
        raise error
    found.append(ListingProblem(kind, str(error), tuple(map(str, files)), tuple(names)))


def is_collecting() -> bool:
    """Say whether problems are collected, so that it is worth looking for what training does not mind."""
    return _COLLECTED.get() is not None


def remark(text: str, *, kind: str, files: Sequence[Path]) -> None:
    """Remember a warning inside `collecting`; elsewhere nothing happens."""
    found = _COLLECTED.get()
    if found is not None and files:
        found.append(ListingProblem(kind, text, tuple(map(str, files)), warning=True))


def left_out() -> set[str]:
    """Return the names of the samples that are left out because of what has been collected."""
    return {name for problem in _COLLECTED.get() or () for name in problem.names}
