"""Does a process end with the one that started it, however that one ended?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from segtrain.lifeline import Lifeline

CHILD = """
import signal, sys, time
from segtrain.lifeline import hold_lifeline
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
hold_lifeline()
print("up", flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
from segtrain.lifeline import Lifeline
lifeline = Lifeline()
child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1]], stdin=lifeline.stdin,
    env={**os.environ, **lifeline.environment()}, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True  # adopted by one that does not wait for it
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_when_the_one_that_started_it_is_killed(number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait()
        assert gone(child)


def test_it_ends_as_by_sigterm_and_may_save(tmp_path: Path) -> None:
    lifeline = Lifeline()
    environment = {**os.environ, **lifeline.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", CHILD]
    with subprocess.Popen(command, stdin=lifeline.stdin, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.poll() is None
        lifeline.cut()
        assert child.wait(20) == 75


def test_a_process_without_a_lifeline_reads_nothing_from_its_standard_input() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SEGTRAIN_LIFELINE"} | {"PYTHONPATH": str(ROOT)}
    code = "from segtrain.lifeline import hold_lifeline; hold_lifeline(); print(input())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], input="a\n", capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "a\n"
