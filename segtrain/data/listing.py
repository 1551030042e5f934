"""What the adapters of public data sets share: name lists, and folders that must be there."""

from pathlib import Path

from segtrain.errors import DataError


def read_names(path: Path) -> list[str]:
    """Return the first word of every line of a list.

    Raises:
        DataError: if the file cannot be read or is empty.
    """
    try:
        names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.split()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is dataset.root right?") from error
    if not names:
        raise DataError(f"{path}: names no image")
    return names


def need_folder(path: Path, what: str) -> Path:
    """Return a folder, or raise a DataError that says what it should hold and how to get it."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {what}")
    return path


def refuse_split(name: str, split: str, accepted: tuple[str, ...]) -> None:
    """Raise a DataError for a split that the data set does not publish."""
    if split not in accepted:
        raise DataError(f"dataset: {name} has no public {split} masks (has: {', '.join(accepted)}); give test=false")
