"""Do trials end one after the other by the same error, so that the search had better stop?"""

import re
from pathlib import Path

SAME_ERRORS = 3  # in a row

NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)


class SameErrors:
    """The errors of the trials that ended last.

    Args:
        most: so many in a row that are the same stop the search.
    """

    def __init__(self, most: int = SAME_ERRORS) -> None:
        self.most = most
        self.last: list[str] = []

    def none(self) -> None:
        """Note that a trial was completed, or pruned: it trained without an error."""
        self.last = []

    def add(self, reason: str, folder: Path) -> bool:
        """Note why a trial failed, and say whether the last ones failed by the same error.

        Args:
            reason: its sentence.
            folder: of the trial, whose name the sentence may have.
        """
        self.last = [*self.last, without_numbers(reason, folder)][-self.most :]
        return len(self.last) == self.most and len(set(self.last)) == 1


def without_numbers(reason: str, folder: Path) -> str:
    """Return a sentence that is the same for two trials: without their folders, sizes, steps and addresses."""
    for path in {str(folder.absolute()), str(folder)}:
        reason = reason.replace(path, "FOLDER")
    return NUMBER.sub("N", reason)
