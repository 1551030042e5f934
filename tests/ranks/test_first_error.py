"""Is the first error of all ranks told, and told once?"""

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from segtrain.ranks import first_error
from segtrain.ranks.first_error import NAME, claim, fail, meeting, read, tell

TORCHRUN = {
    "TORCHELASTIC_ERROR_FILE": "/tmp/torchelastic_a/run_b/attempt_0/1/error.json",
    "RANK": "1",
    "WORLD_SIZE": "2",
}


TASK = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "4",
    "SLURM_STEP_NODELIST": "node1",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, "/tmp/torchelastic_a/run_b/attempt_0"),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, None),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2", "SEGTRAIN_RUN_ID": "a/b"}, "-a-b"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "1"}, None),
        (TASK, "-7-2-0"),
        ({**TASK, "SLURM_RESTART_COUNT": "1"}, "-7-2-1"),
        ({**TASK, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # the job's script, before srun
    ],
)
def test_the_ranks_of_a_run_on_one_machine_meet_in_one_folder(
    environment: dict[str, str], expected: str | None
) -> None:
    folder = meeting(environment)
    assert (folder is None) if expected is None else str(folder).endswith(expected)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run folder; this process is one of two ranks, by Lightning's launcher."""
    for name in ("RANK", "SLURM_PROCID", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, *, host: str = "one") -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setattr(socket, "gethostname", lambda: host)


def test_the_first_is_told_with_its_traceback_and_the_second_is_silent(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    here = run.parent / "here"
    as_rank(monkeypatch, 1)
    tell("rank 1: a.png is broken", here=here, run=run, details="Traceback\n")
    assert capsys.readouterr().err == "Traceback\nsegtrain: rank 1: a.png is broken\n"
    as_rank(monkeypatch, 0)
    tell("rank 0 has lost the connection to another", here=here, run=run)
    assert capsys.readouterr().err == ""
    log = (run / "train.log").read_text()
    assert "ERROR Traceback\nrank 1: a.png is broken\n" in log
    assert "rank 0" not in log


def test_another_machine_repeats_the_first_error_and_says_where_it_was(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    as_rank(monkeypatch, 5, host="one")
    tell("rank 5: a.png is broken", here=run.parent / "one", run=run)
    capsys.readouterr()
    as_rank(monkeypatch, 9, host="two")
    tell("rank 9 has lost the connection to another", here=run.parent / "two", run=run, details="Traceback\n")
    assert capsys.readouterr().err == "segtrain: rank 5: a.png is broken (on one)\n"
    assert (run / "train.log").read_text().count("ERROR") == 1
    as_rank(monkeypatch, 8, host="two")
    tell("rank 8 has lost the connection to another", here=run.parent / "two", run=run)
    assert capsys.readouterr().err == ""


def test_torchrun_shows_the_sentence_as_the_root_cause(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    files = [run.parent / "attempt_0" / str(rank) / "error.json" for rank in (0, 1)]
    for rank, file in enumerate(files):
        file.parent.mkdir(parents=True)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        with pytest.raises(SystemExit) as ended:
            fail("optimizer.lrr: no such key")
        assert ended.value.code == 1
    assert capsys.readouterr().err == "segtrain: optimizer.lrr: no such key\n"
    shown = str(ChildFailedError("segtrain", {r: ProcessFailure(r, 1, 1, str(f)) for r, f in enumerate(files)}))
    first, second = shown.split("Root Cause")[::-1]
    assert "rank      : 0 " in first
    assert "traceback : optimizer.lrr: no such key" in first
    assert "traceback : follows from: optimizer.lrr: no such key" in second


def test_a_single_process_says_its_error_as_ever(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in ("LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_ERROR_FILE", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        fail("interrupted", status=130)
    assert (ended.value.code, capsys.readouterr().err) == (130, "segtrain: interrupted\n")


def test_a_full_disk_does_not_silence_an_error(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    as_rank(monkeypatch, 1)

    def full(*arguments: Any, **more: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    tell("rank 1: the disk is full", here=run.parent / "here", run=run)
    assert capsys.readouterr().err == "segtrain: rank 1: the disk is full\n"


def test_an_error_that_is_just_being_written_is_an_error(run: Path) -> None:
    assert read(run) is None
    (run / NAME).write_text("")
    told = read(run)
    assert told is not None
    assert told.line() == "another rank failed"
    assert not claim(run, told)
    (run / NAME).write_text(json.dumps({"rank": 3, "host": socket.gethostname(), "sentence": "gone"}))
    assert read(run) == first_error.Told(3, socket.gethostname(), "gone")


def test_the_error_of_an_earlier_attempt_is_none_of_this_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 1)
    assert claim(run, first_error.Told(1, "one", "ema_decay: 7.0 is not in [0, 1)"))
    assert read(run) is not None
    assert not claim(run, first_error.Told(0, "one", "it follows"))
    old = first_error.STARTED - first_error.SKEW - 1
    os.utime(run / NAME, (old, old))
    assert read(run) is None
    assert claim(run, first_error.Told(0, "one", "another mistake"))
    told = read(run)
    assert told is not None
    assert told.sentence == "another mistake"


def test_the_first_rank_removes_what_an_attempt_before_it_left(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 1)
    claim(run, first_error.Told(1, "one", "a mistake"))
    first_error.forget_old(run)
    assert (run / NAME).is_file()  # of a rank that began a moment earlier
    os.utime(run / NAME, (first_error.STARTED - 1, first_error.STARTED - 1))
    first_error.forget_old(run)
    assert not (run / NAME).is_file()


def test_a_file_system_that_will_not_say_is_no_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 1)
    claim(run, first_error.Told(1, "one", "a mistake"))

    def stale(*arguments: Any, **more: Any) -> Any:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_text", stale)
    assert read(run) is None
