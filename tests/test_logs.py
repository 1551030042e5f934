"""Does a log whose disk is full stay quiet, and no other?"""

import logging
from pathlib import Path

import pytest

from segtrain.logs import LogFile


def say(handler: logging.Handler) -> None:
    handler.handle(logging.LogRecord("segtrain", logging.INFO, "", 0, "a line", (), None))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_says_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(LogFile("/dev/full"))
    assert capsys.readouterr().err == ""


def test_any_other_fault_of_the_log_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogFile(tmp_path / "a.log")
    handler.setFormatter(logging.Formatter("%(nothing)d"))
    say(handler)
    assert "Logging error" in capsys.readouterr().err
