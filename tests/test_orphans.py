"""Does a rank end once the process that started it was killed, and only then?"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segtrain.orphans import end_with_launcher

RANK = """\
import sys, time
from segtrain.orphans import end_with_launcher
end_with_launcher(every=0.05, grace=0.2)
print("up", flush=True)
time.sleep(60)
"""
LAUNCHER = f"""\
import os, subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", {RANK!r}], env={{**os.environ, "RANK": "5", "LOCAL_RANK": "1"}})
print(rank.pid, flush=True)
rank.wait()
"""


def test_a_rank_ends_with_a_sentence_once_its_launcher_is_killed() -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    assert launcher.stderr is not None
    rank = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "up\n"
    time.sleep(0.5)
    assert Path(f"/proc/{rank}").exists(), "it ended although its launcher lives"
    launcher.send_signal(signal.SIGKILL)
    started = time.monotonic()
    said = launcher.stderr.read()  # to its end: until the rank has closed it too
    assert time.monotonic() - started < 10
    assert said == "segtrain: rank 5: the process that started it is gone, so it ends too\n"
    launcher.wait()


def test_a_process_that_a_user_starts_watches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = threading.active_count()
    end_with_launcher()
    assert threading.active_count() == before
