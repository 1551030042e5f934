"""Are a training's processes asked to stop so that they save, told apart by how they end, and all gone after a kill?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import BANDS, write_bands

from segtrain.checkpoint import read_checkpoint
from segtrain.lifeline import Lifeline
from segtrain.sweep.processes import ask_to_stop, children, family, kill_all, status_of
from segtrain.sweep.run_progress import read_scores
from segtrain.sweep.slots import Slot
from segtrain.sweep.training import Ending, Training

# a training and one of its loader's processes, each of which leaves a file when it gets SIGTERM; "session" puts the
# second into a session of its own, as torchrun does
PARENT = """
import os, signal, subprocess, sys, time
from pathlib import Path
name = sys.argv[1]
def leave(number, frame):
    Path(name).touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, leave)
if name == "parent":
    subprocess.Popen([sys.executable, __file__, "child"], start_new_session="session" in sys.argv)
Path(f"{name}.ready").touch()
time.sleep(300)
"""


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the script above, and wait until both of its processes run."""
    (tmp_path / "parent.py").write_text(PARENT)
    started: list[int] = []

    def started_pair(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(tmp_path / "parent.py"), "parent", *words]
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
        wait_for(lambda: (tmp_path / "parent.ready").exists() and (tmp_path / "child.ready").exists())
        started.extend(family(process.pid))
        return process

    yield started_pair
    for pid in started:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


Start = Callable[..., subprocess.Popen[bytes]]


def gone(pid: int) -> bool:
    """Say whether a process has ended, waited for or not."""
    path = Path(f"/proc/{pid}/stat")
    return not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_training_is_asked_to_stop_and_not_what_loads_for_it(start: Start, tmp_path: Path) -> None:
    process = start()
    ask_to_stop(process.pid, torchrun=False)
    assert process.wait(30) == 75
    assert (tmp_path / "parent").exists()
    assert not (tmp_path / "child").exists()


def test_under_torchrun_the_ranks_are_asked_and_not_torchrun(start: Start, tmp_path: Path) -> None:
    process = start("session")
    ask_to_stop(process.pid, torchrun=True)
    wait_for((tmp_path / "child").exists)
    assert process.poll() is None
    assert not (tmp_path / "parent").exists()


def test_torchrun_that_has_started_no_rank_yet_is_asked_itself(start: Start) -> None:
    process = start()
    (child,) = children(process.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not children(process.pid))
    ask_to_stop(process.pid, torchrun=True)
    assert process.wait(30) == 75


@pytest.mark.parametrize("words", [(), ("session",)])
def test_after_a_kill_nothing_is_left(words: tuple[str, ...], start: Start) -> None:
    process = start(*words)
    members = family(process.pid)
    assert members[0] == process.pid
    assert len(members) == 2
    kill_all(process.pid)
    assert process.wait(30) == -signal.SIGKILL
    wait_for(lambda: all(gone(pid) for pid in members), 10)


def test_a_process_that_has_just_ended_can_be_asked_and_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ask_to_stop(process.pid, torchrun=True)
    kill_all(process.pid)


TABLE = """
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : {} (pid: 4242)
  error_file: <N/A>
------
Root Cause (first observed failure):
  rank      : 0 (local_rank: 0)
  exitcode  : {} (pid: 4241)
"""


@pytest.mark.parametrize(
    ("status", "printed", "expected"),
    [
        (0, "", 0),
        (75, "", 75),
        (-9, "", -9),
        (1, "segtrain: loss: no such choice", 1),
        (1, TABLE.format(75, 75), 75),
        (1, TABLE.format(-15, 75), 75),
        (1, TABLE.format(1, -9), -9),
        (1, TABLE.format(-9, 1), -9),
        (1, TABLE.format(-15, 1), 1),  # by torchrun, once the first had failed
        (1, TABLE.format(1, 1), 1),
    ],
)
def test_torchrun_ends_with_the_status_of_its_ranks(status: int, printed: str, expected: int) -> None:
    assert status_of(status, printed) == expected


def ended(training: Training) -> Ending:
    found: list[Ending] = []
    wait_for(lambda: (ending := training.ended()) is not None and not found.append(ending))
    return found[0]


@pytest.mark.slow
def test_a_training_of_two_processes_under_torchrun_is_stopped_resumed_and_lost(tmp_path: Path) -> None:
    own = [argument for argument in BANDS if not argument.startswith(("trainer=", "loader.num", "trainer.max_epochs"))]
    own += ["trainer=ddp_cpu", "trainer.max_epochs=1000", "norm=group", "loader.num_workers=1", "test=false"]
    own += [f"dataset.root={write_bands(tmp_path / 'bands')}"]
    run, lifeline = tmp_path / "run", Lifeline()

    def start() -> Training:
        before = len(read_scores(run, "val/miou"))
        training = Training(run, own, slot=Slot(0, (), 1, 2), lifeline=lifeline, processes=2)
        wait_for(lambda: len(read_scores(run, "val/miou")) > before or training.ended() is not None)
        return training

    training = start()
    assert training.process is not None
    members = family(training.process.pid)
    training.ask_to_stop("SIGINT")
    ending = ended(training)
    assert (ending.end, ending.reason) == ("stopped", "SIGINT"), ending.tail
    stopped_at = read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]
    assert f"stopped by SIGTERM after step {stopped_at}; go on with" in (run / "train.log").read_text()

    training = start()
    assert training.process is not None
    members += family(training.process.pid)
    os.kill(children(training.process.pid)[1], signal.SIGKILL)
    ending = ended(training)
    assert (ending.end, ending.reason[:37]) == ("lost", "was killed by signal 9 (SIGKILL), as "), ending.tail
    assert "resuming from" in (run / "train.log").read_text()
    wait_for(lambda: all(gone(pid) for pid in members))
    lifeline.cut()
