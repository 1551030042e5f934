"""What the adapters share: name lists, and folders that must be there."""

from pathlib import Path

from segtrain.data.leniency import raise_or_collect
from segtrain.errors import DataError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank.

    Raises:
        DataError: if the file cannot be read or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is dataset.root right?") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no list in UTF-8 ({error})") from error
    if not any(lines):
        raise DataError(f"{path}: names no image")
    return [line for line in lines if line]


def read_names(path: Path) -> list[str]:
    """Return the first word of every line of a list.

    Raises:
        DataError: if the file cannot be read or is empty.
    """
    return [line.split()[0] for line in read_lines(path)]


def need_folder(path: Path, what: str) -> Path:
    """Return a folder.

    Raises:
        DataError: that says what it should hold and how to get it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {what}")
    return path


def need_files(paths: list[Path], what: str) -> None:
    """Check that files are there.

    Raises:
        DataError: that names one that is not, counts them, and says how to get them.
    """
    if missing := [path for path in paths if not path.is_file()]:
        error = DataError(f"{missing[0]}: {len(missing)} of {len(paths)} files are missing; {what}")
        raise_or_collect(error, kind="missing_file", files=missing)


def refuse_split(name: str, split: str, accepted: tuple[str, ...]) -> None:
    """Check that a data set publishes the masks of a split.

    Raises:
        DataError: if it does not.
    """
    if split not in accepted:
        raise DataError(f"dataset: {name} has no public {split} masks (has: {', '.join(accepted)}); give test=false")
