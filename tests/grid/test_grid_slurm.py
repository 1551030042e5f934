"""Is a grid on a real SLURM what it is in one process, with a task killed and another preempted?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BANDS, ROOT, write_bands
from slurm_cluster import Cluster, running_slurm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        write_bands(cluster.folder / "bands")
        path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
        cluster.environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        yield cluster


def start(slurm: Cluster, *arguments: str) -> subprocess.Popen[str]:
    """Submit a grid by `segtrain train -m`; it waits in a process of its own."""
    own = ("dataset.root=bands", "logger=none", "callbacks=none", "hydra/launcher=slurm", "hydra.launcher.poll=0.5")
    return subprocess.Popen(
        [sys.executable, "-m", "segtrain", "train", "-m", *BANDS, *own, *arguments],
        cwd=slurm.folder,
        env=slurm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def start_requeued(slurm: Cluster, process: subprocess.Popen[str]) -> None:
    """Start what SLURM would let wait for two minutes, as long as the grid is waited for."""
    deadline = time.monotonic() + 240
    while process.poll() is None:
        assert time.monotonic() < deadline
        for line in slurm.call("squeue", "-h", "-o", "%i %r").splitlines():
            job, _, reason = line.partition(" ")
            if reason == "BeginTime":
                slurm.start_now(job)
        time.sleep(0.5)


def test_a_grid_is_an_array_whose_lost_failed_and_preempted_jobs_are_told(slurm: Cluster) -> None:
    fate = ("+callbacks.fate={_target_:fates.Fate,fate:none}", "callbacks.fate.fate=preempt,kill,leave", "name=grid")
    process = start(slurm, *fate)
    try:
        start_requeued(slurm, process)
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    (sweep,) = (slurm.folder / "outputs" / "sweeps").glob("grid-*")
    rows = {
        words[0]: words[1] for words in map(str.split, out.splitlines()) if words[1:] and words[0] in ("0", "1", "2")
    }
    assert rows == {"0": "done", "1": "lost", "2": "failed"}, out
    assert process.returncode == 1
    assert "job 0 was preempted; SLURM runs it again, and it goes on from its checkpoint" in out
    assert "job 1 lost: SLURM's state FAILED, killed by signal 9" in out
    assert f"segtrain eval checkpoint={sweep / '0' / 'checkpoints' / 'best.ckpt'} split=test" in out
    log = (sweep / "0" / "train.log").read_text()
    assert "stopped by SIGUSR1 after step 3; the job that SLURM runs again goes on" in log
    assert "last.ckpt, epoch 1, batch 4" in log
    assert "Traceback" not in out


def test_who_leaves_is_told_that_the_jobs_go_on(slurm: Cluster) -> None:
    process = start(slurm, "seed=0,1", "name=left", "trainer.max_epochs=5000")
    assert process.stdout is not None
    submitted = process.stdout.readline()
    array = submitted.partition(" as ")[2].split()[0]
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=30)[0]
    (sweep,) = (slurm.folder / "outputs" / "sweeps").glob("left-*")
    assert process.returncode == 130
    assert f"scancel {array} ends them, segtrain results {sweep} shows what they reach" in out
    assert slurm.facts(f"{array}_0")["JobState"] in ("PENDING", "RUNNING")
    slurm.call("scancel", array)
