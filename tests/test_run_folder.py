"""Are files of run folders replaced whole, whoever writes them at the same moment?"""

import os
from pathlib import Path

import pytest

from segtrain import run_folder
from segtrain.run_folder import replace, write_text


def test_two_processes_may_write_one_file_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, others = tmp_path / "trial.json", os.replace, iter(["theirs"])

    def put(part: Path, name: Path) -> None:
        if (text := next(others, None)) is not None:
            write_text(path, text)  # another worker comes between
        real(part, name)

    monkeypatch.setattr(run_folder.os, "replace", put)
    write_text(path, "ours")
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    path.write_text("before")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
