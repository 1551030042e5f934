"""Are samples read in order, ahead of the one that takes, and no further after an error?"""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from segtrain.data import threads
from segtrain.data.threads import each_sample


class Count:
    """A source that only counts; a user's own, which says no files."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("each_sample reads nothing itself")


class Files(Count):
    """One that says its files."""

    def files(self, index: int) -> Any:
        return (Path("a"),), (Path("b"),)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "num_cores", lambda: 4)


@pytest.mark.parametrize("count", [0, 1, 5, 60])
@pytest.mark.parametrize("kind", [Count, Files])
def test_results_come_in_the_order_of_the_samples(kind: type[Count], count: int) -> None:
    def slow_at_first(index: int) -> int:
        time.sleep(0.002 if index % 4 == 0 else 0)
        return index

    assert list(each_sample(kind(count), slow_at_first)) == list(range(count))


def test_a_source_with_files_is_read_by_several_threads_at_once() -> None:
    together = threading.Barrier(4, timeout=10)  # passed only by four calls at a time
    list(each_sample(Files(8), lambda index: together.wait()))


def test_a_source_that_does_not_say_its_files_is_read_by_one_thread() -> None:
    names = set(each_sample(Count(20), lambda index: threading.current_thread().name))
    assert len(names) == 1


def test_an_error_ends_it_at_once_behind_the_results_before_it() -> None:
    called: list[int] = []

    def read(index: int) -> int:
        called.append(index)
        if index == 3:
            raise ValueError("bad file")
        if index > 3:
            time.sleep(0.2)  # these are under way, or wait for a thread, when the error is seen
        return index

    found: list[int] = []
    with pytest.raises(ValueError, match=r"^bad file$"):
        found.extend(each_sample(Files(10_000), read))
    assert found == [0, 1, 2]
    assert len(called) <= 4 + 4


def test_it_reads_only_a_few_samples_ahead_of_the_one_that_takes() -> None:
    called: list[int] = []
    results = each_sample(Files(1000), called.append)
    next(results)
    time.sleep(0.05)
    assert len(called) <= 20
    results.close()  # type: ignore[attr-defined]
    assert len(called) <= 20
