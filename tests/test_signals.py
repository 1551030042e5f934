"""Do all processes of a run end, saved and resumable, whichever of them a signal is sent to?"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import only_run, run_segtrain, write_bands
from test_resume import OVERRIDES, assert_same_end

from segtrain.checkpoint import read_checkpoint

PAIR = (*(argument for argument in OVERRIDES if argument != "trainer=cpu"), "trainer=ddp_cpu", "test=false")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with two processes and without a stop: the run folder to compare with."""
    folder = tmp_path_factory.mktemp("pair")
    done = run_segtrain("train", *PAIR, f"dataset.root={write_bands(folder / 'bands')}", cwd=folder, warm=False)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def start(command: list[str], folder: Path, root: Path, *more: str) -> subprocess.Popen[str]:
    """Start a run of two processes that waits at step 5 until it has been signalled, in a session of its own."""
    (folder / "waiter.py").write_text(WAITER)
    waiter = "+callbacks.wait={_target_:waiter.Wait}"
    return subprocess.Popen(
        [*command, "train", *PAIR, f"dataset.root={root}", waiter, *more],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


WAITER = """\
import os, time
import pytorch_lightning as pl
class Wait(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5 and not os.path.exists("signalled"):
            open(f"rank{trainer.global_rank}.{os.getpid()}", "w").close()
            while not os.path.exists("signalled"):
                time.sleep(0.05)
            time.sleep(0.5)
"""


def ranks(folder: Path, process: subprocess.Popen[str]) -> list[int]:
    """Wait until both ranks are at step 5; return their process ids."""
    deadline = time.monotonic() + 200
    while len(found := sorted(folder.glob("rank*.*"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return [int(path.suffix[1:]) for path in found]


def session_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the living processes of a process's session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == process.pid and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", ["all", "group", "rank 0, the launcher", "torchrun"])
def test_a_signal_to_any_process_ends_all_of_them_and_the_run_goes_on(target: str, pair: Path, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if target == "torchrun" else []
    loaders = ["loader.num_workers=1"] if target == "group" else []  # which the others of the group need to the end
    process = start([sys.executable, *torchrun, "-m", "segtrain"], tmp_path, pair.parents[2] / "bands", *loaders)
    try:
        pids = ranks(tmp_path, process)
        signalled = {"all": pids, "group": [process.pid], "torchrun": [process.pid]}.get(target, pids[:1])
        for pid in signalled:
            (os.killpg if target == "group" else os.kill)(pid, signal.SIGTERM)
        (tmp_path / "signalled").touch()
        out, err = process.communicate(timeout=60)
        left = session_of(process)
    finally:
        for pid in session_of(process):
            os.kill(pid, signal.SIGKILL)
    assert not left, "a process is left"
    run = only_run(tmp_path)
    assert f"stopped by SIGTERM after step 6; go on with: segtrain train resume={run}" in out, err
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 6
    if target == "torchrun":
        assert process.returncode == 1  # its own
        return
    assert process.returncode == 75, err
    assert "Traceback" not in err
    if target in ("all", "group"):
        done = run_segtrain("train", f"resume={run}", "trust=[waiter]", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert_same_end(run, pair)
