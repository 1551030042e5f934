"""Searches whose trainings are a stub that takes a moment, each worker a real `segtrain sweep` process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conftest import ROOT

# runs in place of `python -m segtrain train`: logs its call, has one validation, and saves when it is asked to stop
TRAIN = """\
import json, os, pathlib, signal, sys, time
def stop(*_):
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / "last.ckpt").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
given = dict(argument.split("=", 1) for argument in sys.argv[2:])
run = pathlib.Path(given["hydra.run.dir"])
run.mkdir(parents=True, exist_ok=True)
with open(os.environ["STUB_CALLS"], "a") as calls:
    calls.write(json.dumps({"run": str(run), "resumes": os.environ["SEGTRAIN_AGAIN"] == "1", **given}) + "\\n")
deadline = time.monotonic() + float(os.environ["STUB_SECONDS"])
while time.monotonic() < deadline:
    time.sleep(0.02)
(run / "metrics.csv").write_text("epoch,val/miou\\n0,0.5\\n")
(run / "metrics.json").write_text(json.dumps({"val/miou": 0.5}))
"""

# segtrain itself from here; the trainings that it starts find the stub
SWEEP = "import sys; sys.path.insert(0, {root!r}); sys.argv[0] = 'segtrain'; from segtrain.cli import main; main()"


class Stub:
    """Starts workers whose trainings are stubs.

    Args:
        folder: of the stub and the log of its calls; each worker has its outputs in a folder of its own below.
        overrides: of every worker.
        seconds: that a training takes.
    """

    def __init__(self, folder: Path, *overrides: str, seconds: float) -> None:
        self.folder = folder
        self.overrides = overrides
        self.calls_path = folder / "calls.jsonl"
        package = folder / "stub" / "segtrain"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(TRAIN)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(package.parent),
            "STUB_CALLS": str(self.calls_path),
            "STUB_SECONDS": str(seconds),
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("SEGTRAIN_RUN_ID", None)

    def start(self, machine: str, *overrides: str) -> subprocess.Popen[str]:
        """Start a worker in the folder of a machine; workers of one machine share it."""
        folder = self.folder / machine
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", SWEEP.format(root=str(ROOT)), "sweep", *self.overrides, *overrides],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def calls(self) -> list[dict[str, Any]]:
        """Return the overrides of every training that was started, with its run folder."""
        lines = self.calls_path.read_text().splitlines() if self.calls_path.is_file() else []
        return [json.loads(line) for line in lines]

    def wait_for_calls(self, count: int, *workers: subprocess.Popen[str], timeout: float = 300) -> None:
        """Wait until so many trainings were started."""
        deadline = time.monotonic() + timeout
        while len(self.calls()) < count:
            ended = [worker for worker in workers if worker.poll() is not None]
            assert not ended, ended[0].communicate()[0]
            assert time.monotonic() < deadline, self.calls()
            time.sleep(0.05)


def finish(*workers: subprocess.Popen[str], timeout: float = 500) -> list[str]:
    """Wait until all workers end with status 0; return what each printed."""
    deadline = time.monotonic() + timeout
    printed = []
    for worker in workers:
        try:
            output, _ = worker.communicate(timeout=deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            for other in workers:
                other.send_signal(signal.SIGKILL)
            raise
        assert worker.returncode == 0, output
        printed.append(output)
    return printed


def trials(folder: Path) -> list[dict[str, Any]]:
    """Return what the trial.json of a search's folder say, by number."""
    found = [json.loads(path.read_text()) for path in folder.glob("trials/*/trial.json")]
    return sorted(found, key=lambda trial: int(trial["number"]))
