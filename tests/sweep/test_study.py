"""Is the number of trials exact, and is none lost or repeated, with workers that die at any moment?"""

import contextlib
import itertools
import re
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sweep.helpers import file_search, memory_search

from segtrain.errors import UserError
from segtrain.sweep import lost
from segtrain.sweep.combinations import combinations
from segtrain.sweep.patience import Patience, TakenError
from segtrain.sweep.presence import Presence, is_dead
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space


def finish(search: Search, asked: Any, value: float = 0.5) -> None:
    search.complete(asked, [value], {"seconds": 1.0})


def test_the_total_is_exact_when_many_ask_at_once(tmp_path: Path) -> None:
    names: list[str] = []

    def work() -> None:
        search = file_search(tmp_path, n_trials=8)
        while (asked := search.ask()) is not None:
            names.append(asked.folder)
            finish(search, asked)

    file_search(tmp_path)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    search = file_search(tmp_path, n_trials=8)
    assert len(names) == len(set(names)) == search.done() == 8
    assert search.ask() is None
    search.n_trials = 9
    asked = search.ask()
    assert asked is not None
    assert asked.folder not in names


def test_a_trial_that_is_asked_again_keeps_its_place_values_and_folder() -> None:
    search = memory_search(n_trials=2)
    first, second = search.ask(), search.ask()
    assert first is not None
    assert second is not None
    assert search.ask() is None
    search.try_again(first, {"reason": "stopped", "seconds": 3.0}, lost=False)
    again = search.ask()
    assert again is not None
    assert (again.values, again.folder, again.tries, again.seconds) == (first.values, first.folder, 0, 3.0)
    search.try_again(again, {"reason": "killed", "seconds": 4.0}, lost=True)
    third = search.ask()
    assert third is not None
    assert (third.values, third.folder, third.tries, third.seconds) == (first.values, first.folder, 1, 4.0)
    finish(search, third)
    finish(search, second)
    assert search.done() == 2
    assert search.ask() is None


def test_a_trial_that_is_asked_again_is_not_surplus_behind_a_new_one_of_the_same_moment() -> None:
    search = memory_search(n_trials=3)
    running = [search.ask() for _ in range(3)]
    late = search.study.ask()  # another worker's, which has counted a moment too early
    assert running[0] is not None
    search.try_again(running[0], {"reason": "stopped"}, lost=False)
    assert search._accept(late) is None
    assert late.user_attrs["void"] == "surplus"
    again = search.ask()
    assert again is not None
    assert again.values == running[0].values


def test_a_trial_that_two_workers_asked_again_is_run_once() -> None:
    search = memory_search(n_trials=1)
    asked = search.ask()
    assert asked is not None
    for _ in range(2):
        facts = {"again": 0, "root": 0, "tries": 1, "folder": "0000", "values": asked.values}
        search.study.enqueue_trial(dict(asked.values), user_attrs=facts)
    search.study.tell(asked.trial, state=TrialState.FAIL)
    again = search.ask()
    assert again is not None
    finish(search, again)
    assert search.ask() is None
    assert search.done() == len(search.trials()) == 1


def die(search: Search, step: str) -> None:
    """Do what a worker does with a trial until it dies before a step."""
    if step == "values":
        search.study.ask()
        return
    asked = search.ask()
    assert asked is not None
    asked.trial.report(0.1, 0)
    if step == "tell again":
        search._enqueue(asked, 1, 0.0)
    elif step == "tell complete":
        asked.trial.set_user_attr("seconds", 1.0)
    elif step == "tell failed":
        asked.trial.set_user_attr("reason", "an error")


@pytest.mark.parametrize("step", ["values", "run", "tell again", "tell complete", "tell failed"])
def test_a_worker_that_dies_at_any_step_loses_no_trial(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, other = file_search(tmp_path, n_trials=3), file_search(tmp_path, n_trials=3)
    presence = Presence(tmp_path)
    dead.worker = presence.mark()
    die(dead, step)
    monkeypatch.setattr("segtrain.sweep.tried.DRAWING", 0.1)
    now = itertools.count(0, lost.GRACE + 1)
    monkeypatch.setattr(other.lookout, "clock", lambda: float(next(now)))
    if step != "values":
        assert other.take_over() == []  # its worker is alive
        presence.file.close()  # as the kernel does
        assert is_dead(presence.mark())
    names = []
    for _ in range(4):
        other.take_over()
        while (asked := other.ask()) is not None:
            names.append(asked.folder)
            finish(other, asked)
    assert other.done() == len(other.trials()) == 3
    assert len(names) == len(set(names)) == (2 if step == "tell failed" else 3)
    if step in ("run", "tell complete"):
        again = next(trial for trial in other.trials() if "again" in trial.user_attrs)
        assert again.user_attrs["folder"] == "0000"
        assert again.user_attrs["tries"] == 1


def test_a_trial_that_was_lost_while_it_drew_its_values_is_not_repeated_by_others() -> None:
    search = memory_search({"a": "choice(x, y)", "b": "choice(1, 2)"}, n_trials=20)
    died = search.study.ask()
    died.suggest_categorical("a", ["x", "y"])  # and no more
    search.study.tell(died, state=TrialState.FAIL)
    assert [taken.folder for taken in search.take_over()] == [None]
    while (asked := search.ask()) is not None:
        finish(search, asked)
    drawn = [tuple(trial.params.values()) for trial in search.trials()]
    assert sorted(drawn) == [("x", "1"), ("x", "2"), ("y", "1"), ("y", "2")]


def test_a_trial_that_was_lost_while_it_drew_its_values_repeats_no_other() -> None:
    search = memory_search({"a": "choice(1, 2)"}, n_trials=2)
    first = search.ask()
    assert first is not None
    finish(search, first)
    died = search.study.ask()
    search.study.tell(died, state=TrialState.FAIL)
    facts = {"again": died.number, "root": died.number, "tries": 1, "values": {}}
    search.study.enqueue_trial(dict(first.values), user_attrs=facts)  # as it may happen to draw
    finish(search, search.ask())
    assert {trial.params["a"] for trial in search.trials()} == {"1", "2"}
    assert search.done() == len(search.trials()) == 2


def test_a_trial_that_is_lost_too_often_has_failed() -> None:
    search = memory_search(n_trials=1, retries=1)
    for tries in range(2):
        asked = search.ask()
        assert asked is not None
        assert asked.tries == tries
        search.held.clear()
        search.lookout.take_over([], asked.trial.user_attrs["worker"] or {}, retries=1)
        search.study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)
        search.take_over()
    assert search.done() == 1
    assert search.ask() is None


def test_a_trial_of_another_machine_is_lost_once_its_heartbeat_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, other = file_search(tmp_path), file_search(tmp_path)
    search.worker = {"host": "elsewhere", "lock": str(tmp_path / "none")}
    asked = search.ask()
    assert asked is not None
    assert is_dead(search.worker) is None
    assert other.take_over() == []
    assert other.storage is not None
    monkeypatch.setattr(other.storage, "grace_period", -1)
    (taken,) = other.take_over()
    assert (taken.number, taken.folder) == (0, "0000")
    with pytest.raises(TakenError):
        search.report(asked, 0, 0.5)
    with pytest.raises(TakenError):
        search.beat(asked)
    with pytest.raises(TakenError):
        finish(search, asked)
    with pytest.raises(TakenError):
        search.try_again(asked, {"reason": "stopped"}, lost=False)
    assert len(other.trials()) == 1


def grow_old(folder: Path) -> None:
    """Let all heartbeats be an hour old."""
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")


def test_trials_whose_worker_holds_its_file_are_not_lost_by_an_old_heartbeat(tmp_path: Path) -> None:
    search, other = file_search(tmp_path), file_search(tmp_path)
    own, others = Presence(tmp_path / "own"), Presence(tmp_path / "others")
    search.worker, other.worker = own.mark(), others.mark()
    mine, theirs = search.ask(), other.ask()
    assert mine is not None
    assert theirs is not None
    grow_old(tmp_path)  # as when the machine has slept
    assert search.take_over() == []
    search.beat(mine)
    other.beat(theirs)
    others.file.close()
    assert [taken.number for taken in search.take_over()] == [theirs.trial.number]


def test_after_a_silence_of_the_storage_workers_have_time_for_a_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    search, other = file_search(tmp_path), file_search(tmp_path)
    search.patience = Patience("here", sleep=clock.sleep, clock=lambda: clock.now)
    other.worker = {"host": "elsewhere", "lock": "none"}
    assert other.ask() is not None
    grow_old(tmp_path)  # nobody could send any
    real, silence = search.lookout.study.get_trials, silent(20, clock)

    def get_trials(*arguments: Any, **options: Any) -> Any:
        silence()
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(search.lookout.study, "get_trials", get_trials)
        assert search.take_over() == []  # the call that meets it
    assert search.take_over() == []
    clock.now += lost.GRACE - 1
    assert search.take_over() == []
    search.patience.call(silent(3, clock))  # too short for any heartbeat to be missing
    assert [taken.number for taken in search.take_over()] == [0]


def test_a_storage_that_hangs_while_heartbeats_are_read_has_none_of_workers_that_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, other = file_search(tmp_path), file_search(tmp_path)
    other.worker = {"host": "elsewhere", "lock": "none"}
    assert other.ask() is not None
    grow_old(tmp_path)
    now = itertools.count(0, lost.HEARTBEAT + 1)
    with monkeypatch.context() as patched:
        patched.setattr(search.lookout, "clock", lambda: float(next(now)))
        assert search.take_over() == []
    assert [taken.number for taken in search.take_over()] == [0]


@pytest.mark.parametrize("end", ["complete", "prune", "fail"])
def test_an_end_whose_commit_was_not_answered_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    search = file_search(tmp_path)
    search.patience = Patience("here", sleep=lambda seconds: None)
    asked = search.ask()
    assert asked is not None
    real, calls = search.study.tell, []

    def tell(*arguments: Any, **options: Any) -> None:
        calls.append(real(*arguments, **options))
        raise optuna.exceptions.StorageInternalError("the connection was lost")

    monkeypatch.setattr(search.study, "tell", tell)
    facts = {"seconds": 1.5, "reason": "an error"}
    if end == "complete":
        search.complete(asked, [0.25], facts)
    else:
        getattr(search, end)(asked, facts)
    (trial,) = search.trials()
    assert len(calls) == 1
    assert trial.state.name == {"complete": "COMPLETE", "prune": "PRUNED", "fail": "FAIL"}[end]
    assert trial.values == ([0.25] if end == "complete" else None)
    assert search.held == set()


def test_a_trial_whose_values_do_not_come_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    search = memory_search(n_trials=6)
    search.study.ask()  # by a worker that died
    slept: list[float] = []
    now = itertools.count()
    monkeypatch.setattr("segtrain.sweep.tried.time.sleep", slept.append)
    monkeypatch.setattr("segtrain.sweep.tried.time.monotonic", lambda: float(next(now)))
    finish(search, search.ask())
    assert slept
    slept.clear()
    finish(search, search.ask())
    finish(search, search.ask())
    assert slept == []


def test_a_worker_of_this_machine_is_alive_as_long_as_it_holds_its_file(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert presence.mark()["host"] == socket.gethostname()
    assert is_dead(presence.mark()) is False
    presence.leave()
    assert is_dead(presence.mark()) is None  # nothing is known of it
    assert not (tmp_path / "workers").exists()
    dead, needed = Presence(tmp_path), Presence(tmp_path)
    dead.file.close()
    needed.file.close()
    alive = Presence(tmp_path)
    alive.forget_dead([str(needed.path)])
    assert {path.name for path in alive.path.parent.iterdir()} == {alive.path.name, needed.path.name}
    assert is_dead(None) is None


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.output: cannot write .*give paths\.output=FOLDER"):
        Presence(tmp_path / "file")


SMALL = {"loss": "choice(ce, focal)", "gamma": {"range": "range(1, 4)", "when": "loss=focal"}}


def test_all_combinations_of_a_space_are_found_conditions_obeyed() -> None:
    found = combinations(parse_space(SMALL))
    assert found is not None
    expected = [{"loss": "ce"}, *({"loss": "focal", "gamma": gamma} for gamma in (1, 2, 3))]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert combinations(parse_space({"x": "interval(0, 1)", "loss": "choice(a, b)"})) is None
    assert combinations(parse_space({"x": "range(0, 100000)"})) is None
    assert combinations(parse_space({"x": "range(0, 50)", "y": "range(0, 50)"})) is None
    assert combinations(parse_space({"x": "range(0, 1, step=0.25)"})) == [{"x": x} for x in (0.0, 0.25, 0.5, 0.75)]


@pytest.mark.parametrize("text", ["range(0, 0.8, step=0.1)", "range(0, 1.2, step=0.3)", "range(0.1, 1, step=0.1)"])
def test_the_values_of_a_range_of_floats_are_those_that_are_drawn(text: str) -> None:
    space = parse_space({"x": text})
    search = memory_search({"x": text}, n_trials=20)
    while (asked := search.ask()) is not None:
        finish(search, asked)
    drawn = sorted(trial.params["x"] for trial in search.trials())
    assert drawn == space.grid()["x"] == [values["x"] for values in combinations(space) or ()]
    start, stop, step = (float(number) for number in re.findall(r"[\d.]+", text))
    assert drawn == pytest.approx(list(np.arange(start, stop - 1e-9, step)))


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler(seed=0), optuna.samplers.TPESampler(seed=0)])
def test_a_small_space_is_searched_whole_and_then_ends_by_itself(
    sampler: optuna.samplers.BaseSampler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="segtrain")
    search = memory_search(SMALL, n_trials=20, sampler=sampler)
    while (asked := search.ask()) is not None:
        finish(search, asked)
    assert search.exhausted
    assert len(search.trials()) == search.done() == 4
    assert len({str(trial.params) for trial in search.trials()}) == 4
    assert "all 4 combinations of the space are tried" in caplog.text
    before = len(search.study.trials)
    again = Search(search.study, search.space, n_trials=20)  # the same command again
    assert again.ask() is None
    assert again.exhausted
    assert len(search.study.trials) == before


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def silent(times: int, clock: Clock) -> Any:
    calls = iter(range(times))

    def call() -> str:
        if next(calls, None) is not None:
            raise optuna.exceptions.StorageInternalError("commit") from RuntimeError("database is locked\nmore")
        return "answer"

    return call


def test_a_storage_that_is_silent_for_a_while_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    patience = Patience("sqlite:///study.db", seconds=60, sleep=clock.sleep, clock=lambda: clock.now)
    with caplog.at_level("INFO", logger="segtrain"):
        assert patience.call(silent(7, clock)) == "answer"
    assert clock.naps == [0.5, 1, 2, 4, 8, 10, 10]
    assert caplog.text.count("does not answer (database is locked)") == 1
    assert caplog.text.count("answers again") == 1


def test_a_storage_that_is_silent_for_long_is_a_sentence() -> None:
    clock = Clock()
    patience = Patience("sqlite:///study.db", seconds=60, sleep=clock.sleep, clock=lambda: clock.now)
    with pytest.raises(UserError, match=r"sqlite:///study.db has not answered for 6\d s \(database is locked\)"):
        patience.call(silent(1000, clock))
    clock.now = 0
    patience.seconds = 0
    with pytest.raises(UserError, match="has not answered for 0 s"):
        patience.call(silent(1000, clock))
