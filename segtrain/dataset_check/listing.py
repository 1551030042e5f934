"""Which samples each split has, and all that is wrong before any is read."""

from collections.abc import Callable, Sequence

from segtrain.data.leniency import ListingProblem, collecting
from segtrain.data.source import Source
from segtrain.dataset_check.problem import Item, Problem
from segtrain.errors import DataError

# what is said of each file; where a kind is not here, one sentence names all files of a problem
OF_A_FILE = {
    "missing_mask": "has no mask",
    "jpeg_mask": "has a JPEG for a mask",
    "extra_mask": "has no image",
    "missing_file": "is not there",
    "listed_not_there": "is in a list, and there is no such image",
}


def open_splits(
    make: Callable[..., Source], splits: Sequence[str], *, declared: bool
) -> tuple[dict[str, Source], list[Problem]]:
    """Return the splits that have samples, and the problems of listing all.

    Args:
        make: called with `split=`.
        splits: their names.
        declared: the data set says which splits it has; otherwise a test split is a possibility.
    """
    sources: dict[str, Source] = {}
    problems: list[Problem] = []
    found: dict[str, list[ListingProblem]] = {}
    for split in splits:
        kind = "no_test_split" if split == "test" and not declared else "listing"
        with collecting() as found[split]:
            try:
                source = make(split=split)
                if len(source) > 0:
                    sources[split] = source
                elif not found[split]:
                    problems.append(Problem(kind, [Item(f"the {split} split is empty", (), split)]))
            except DataError as error:
                problems.append(Problem(kind, [Item(str(error), (), split)]))
            except Exception as error:  # of a data set of the user's own
                text = f"{split}: {type(error).__name__}: {error}"
                problems.append(Problem("exception", [Item(text, (), split)]))
    return sources, _told_once(problems) + _of_files(found, sources)


def _told_once(problems: list[Problem]) -> list[Problem]:
    """Leave out what is said of the test split where it is said of another: a wrong root is one mistake."""
    errors = {problem.items[0].text for problem in problems if problem.kind != "no_test_split"}
    first: dict[str, Problem] = {}
    for problem in problems:
        if problem.kind != "no_test_split" or problem.items[0].text not in errors:
            first.setdefault(problem.items[0].text, problem)
    return list(first.values())


def _of_files(found: dict[str, list[ListingProblem]], sources: dict[str, Source]) -> list[Problem]:
    """Return the collected problems, file by file; a mask that another split uses is not left over."""
    used = {
        str(path)
        for source in sources.values()
        if callable(getattr(source, "files", None))
        for index in range(len(source))
        for path in source.files(index)[1]  # type: ignore[attr-defined]
    }
    told: set[tuple[str, str, tuple[str, ...]]] = set()  # where splits are dealt from a folder, each lists all of it
    problems: list[Problem] = []
    for split, collected in found.items():
        for problem in collected:
            files = [file for file in problem.files if problem.kind != "extra_mask" or file not in used]
            text = OF_A_FILE.get(problem.kind, problem.text)
            one_each = problem.kind in OF_A_FILE
            for group in [(file,) for file in files] if one_each else [tuple(files)]:
                if (problem.kind, text, group) not in told:
                    told.add((problem.kind, text, group))
                    problems.append(Problem(problem.kind, [Item(text, group, split, names_files=not one_each)]))
    return problems
