"""How does a training end, and what is said of it?"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from sweep.helpers import fake_trainings

from segtrain.last_words import last_lines
from segtrain.lifeline import Lifeline
from segtrain.metrics_file import read_metrics
from segtrain.run_lock import is_held
from segtrain.sweep.run_progress import read_scores
from segtrain.sweep.same_errors import SameErrors
from segtrain.sweep.slots import Slot
from segtrain.sweep.training import Ending, Training

pytestmark = pytest.mark.usefixtures("fake_trainings")

__all__ = ["fake_trainings"]


def begin(folder: Path, *overrides: str, processes: int = 1) -> Training:
    return Training(folder, overrides, slot=Slot(0, (), 1), lifeline=Lifeline(), processes=processes)


def wait(training: Training) -> Ending:
    deadline = time.monotonic() + 30
    while (ending := training.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ending


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_complete_training_has_scores_and_metrics(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", "epochs=2", "x=0.25", "seed=0")
    assert wait(training).end == "complete"
    assert training.ended() == Ending("complete", tail="epoch 0 of 0\nepoch 1 of 0")
    assert read_scores(tmp_path / "run", "val/miou") == [(0, 0.25), (1, 0.25)]
    assert read_metrics(tmp_path / "run") == {"val/miou": 0.25, "runs": 1.0}
    assert read_metrics(tmp_path) == {}
    (tmp_path / "run" / "metrics.json").write_text('{"val/miou": 0.')  # on a full disk, or in a copy
    assert read_metrics(tmp_path / "run") == {}
    training.ask_to_stop("late")  # does no harm
    training.kill()


def test_one_that_is_asked_to_stop_saves_and_is_resumed_without_what_it_printed_before(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", "epochs=3", "pause=0.3")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    training.ask_to_stop("pruned")
    assert wait(training) == Ending("stopped", "pruned", "epoch 0 of None")
    again = begin(tmp_path / "run", "epochs=3")
    assert wait(again).tail == "epoch 1 of None\nepoch 2 of None"


def test_one_that_is_stopped_before_it_can_save_is_not_lost(tmp_path: Path) -> None:
    training = begin(tmp_path / "run")
    training.ask_to_stop("SIGINT")  # while it imports, SIGTERM ends it at once
    assert wait(training).end in ("stopped", "complete")
    assert wait(begin(tmp_path / "run")).end == "complete"


def test_one_that_is_killed_is_lost_and_one_that_ends_by_itself_too(tmp_path: Path) -> None:
    assert wait(begin(tmp_path / "a", "kill=0")).reason.startswith("was killed by signal 9 (SIGKILL)")
    assert wait(begin(tmp_path / "b", "nan=1")) == Ending("lost", "stopped by a signal", "epoch 0 of None")
    training = begin(tmp_path / "c", "pause=0.3", "epochs=9")
    wait_for(tmp_path / "c" / "checkpoints" / "last.ckpt")
    assert training.process is not None
    os.kill(training.process.pid, signal.SIGTERM)  # by somebody else
    assert (wait(training).end, training.ended()) == ("lost", Ending("lost", "stopped by a signal", "epoch 0 of None"))


def test_a_mistake_is_told_in_its_sentence_and_an_error_by_its_last_line(tmp_path: Path) -> None:
    ending = wait(begin(tmp_path / "a", "sentence=loss: no such option\n  (has: ce)"))
    assert (ending.end, ending.reason) == ("failed", "loss: no such option\n  (has: ce)")
    ending = wait(begin(tmp_path / "b", "epochs=many"))
    assert ending.reason == "ValueError: invalid literal for int() with base 10: 'many'"
    assert "Traceback" in ending.tail
    assert wait(begin(tmp_path / "c", "sentence=RUN: another process is training here; wait")).end == "stopped"
    assert wait(begin(tmp_path / "d", "sentence=rank 1 has died without a word")).end == "lost"


def test_a_hanging_training_is_killed_once_it_was_asked_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = begin(tmp_path / "run", "pause=60")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    training.ask_to_stop("SIGTERM")
    os.kill(training.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    assert training.ended() is None
    monkeypatch.setattr("segtrain.sweep.training.PATIENCE", 0.0)
    assert wait(training).end == "stopped"


def test_a_folder_in_use_is_waited_for_and_its_config_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert not is_held(run)
    (run / "config.yaml").write_text("theirs")
    with (run / "config.yaml").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(run)
        training = begin(run, "epochs=1")
        assert training.ended() is None
        assert training.process is None
        assert (run / "config.yaml").read_text() == "theirs"
        waiting = begin(run)
        waiting.ask_to_stop("SIGINT")
        assert waiting.ended() == Ending("stopped", "SIGINT")
    with (run / "config.yaml").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # a look of `segtrain results`
        assert not is_held(run)
    assert wait(training).end == "complete"
    assert json.loads((run / "config.yaml").read_text())["epochs"] == "1"


def test_its_end_is_the_end_of_its_loaders_processes(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60']); sys.exit(1)"
    training = begin(tmp_path / "run", "epochs=1", "pause=60")
    training.kill()
    wait(training)
    training.process = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    training.ending = None
    group = training.process.pid
    wait(training)
    deadline = time.monotonic() + 10
    while any(line.split(")")[-1].split()[2] == str(group) and " Z " not in line for line in _stats()):
        assert time.monotonic() < deadline, "the loader's process lives"
        time.sleep(0.05)


def _stats() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            lines.append(path.read_text())
        except OSError:
            continue
    return lines


def test_it_ends_with_its_worker(tmp_path: Path) -> None:
    training = begin(tmp_path / "run", f"lifeline={ROOT}", "epochs=50", "pause=0.2")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    training.lifeline.cut()
    ending = wait(training)
    assert (ending.end, ending.reason) == ("lost", "stopped by a signal")
    assert 1 <= len(read_scores(tmp_path / "run", "val/miou")) < 50


def test_the_end_of_a_file_begins_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes("früher\nnow\n\xff\n".encode("latin-1"))
    assert last_lines(tmp_path / "log", start=7) == "now\n\ufffd"
    assert last_lines(tmp_path / "log", 1) == "\ufffd"
    assert last_lines(tmp_path / "none") == ""


def test_errors_are_the_same_but_for_numbers_and_their_folder(tmp_path: Path) -> None:
    errors = SameErrors()
    sentences = [f"no room in {tmp_path}/{n}/x for {n}.5 GiB at 0x{n}f (1e-{n})" for n in (1, 2, 3)]
    assert [errors.add(text, tmp_path / str(n)) for n, text in enumerate(sentences, 1)] == [False, False, True]
    errors.none()
    assert [errors.add(text, tmp_path) for text in ("a", "a", "b", "a", "a", "a")] == [False] * 5 + [True]
