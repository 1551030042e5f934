"""Are the samples that cannot be read named and counted over all ranks?"""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from two_processes import run_in_two_processes

from segtrain.callbacks.bad_samples import MOST_NAMED, BadSamples


class Kept(logging.Handler):
    """Keep the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def said_by(rank: int, batches: list[list[str]]) -> list[str]:
    """Return what a rank says in its batches and at the end of training."""
    kept, logger = Kept(), logging.getLogger("segtrain")
    logger.addHandler(kept)
    this: Any = SimpleNamespace(is_global_zero=rank == 0)
    callback = BadSamples()
    for bad in batches:
        callback.on_train_batch_end(this, this, None, {"bad": bad}, 0)
    callback.on_train_end(this, this)
    logger.removeHandler(kept)
    return kept.messages


def said_by_one_of_two(rank: int) -> list[list[str]]:
    """Return what is said where both ranks met some, and where only the second did."""
    mine = [["a.png: cut"], ["both.png: cut"]], [["both.png: cut"], ["z.png: cut"] * 2]
    many: list[list[list[str]]] = [[[]], [[f"{number:02}.png: cut" for number in range(30)]]]
    return [said_by(rank, mine[rank]), said_by(rank, many[rank])]


def test_the_samples_of_all_ranks_are_named_once_up_to_a_limit_and_counted(tmp_path: Path) -> None:
    (first, few), (second, _) = run_in_two_processes(said_by_one_of_two, tmp_path)
    assert first == [
        "left out: a.png: cut",
        "left out: both.png: cut",
        "left out: z.png: cut",
        "3 training samples cannot be read; others took their place 5 times",
    ]
    assert second == ["left out: both.png: cut", "left out: z.png: cut"]
    assert few[:-1] == [f"left out: {number:02}.png: cut" for number in range(MOST_NAMED)]
    assert few[-1] == "30 training samples cannot be read; others took their place 30 times"


@pytest.mark.parametrize(("batches", "count"), [([[]], 0), ([["a"], ["a", "b"]], 3)])
def test_one_process_says_the_total_where_there_is_one(batches: list[list[str]], count: int) -> None:
    total = [f"2 training samples cannot be read; others took their place {count} times"] if count else []
    assert said_by(0, batches)[2 if count else 0 :] == total
