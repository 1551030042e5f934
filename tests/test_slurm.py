"""Does a run under a real SLURM end as one without it, preempted and requeued, and does a dead task end the job?"""

import csv
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import BANDS, run_segtrain, write_bands
from slurm_cluster import Cluster, running_slurm

pytestmark = pytest.mark.slow

OVERRIDES = (*(argument for argument in BANDS if not argument.startswith("trainer=")), "test=false")

# sends the running job a signal from within step 2, once, and waits for it; or kills the second task
CALLBACKS = """\
import os, signal, subprocess, time
import pytorch_lightning as pl
from segtrain.callbacks.stop import StopOnSignal
class Preempt(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != 1 or os.path.exists("preempted"):
            return
        if trainer.is_global_zero:
            # scancel is one of the job's processes, all of which get the signal
            scancel = ["env", "--ignore-signal=USR1", "scancel", "--signal=USR1"]
            subprocess.run([*scancel, os.environ["SLURM_JOB_ID"]], check=True)
        (stop,) = [callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal)]
        deadline = time.monotonic() + 60
        while not stop.received and time.monotonic() < deadline:
            time.sleep(0.05)
    def on_exception(self, trainer, pl_module, exception):
        open("preempted", "w").close()
class Kill(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 1 and trainer.global_rank == 1:
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        (cluster.folder / "mycallbacks.py").write_text(CALLBACKS)
        write_bands(cluster.folder / "bands")
        yield cluster


def script(command: str) -> str:
    """Return the README's script for two machines of one task each, which have no name here and no GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=1
        #SBATCH --time=12:00:00 --signal=USR1@90 --requeue --open-mode=append
        export MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1
        srun --cpus-per-task=$SLURM_CPUS_PER_TASK --kill-on-bad-exit=1 {command}
        """)


def train(*overrides: str) -> str:
    own = ("trainer=slurm", "trainer.accelerator=cpu", "trainer.sync_batchnorm=false", "dataset.root=bands")
    return " ".join([sys.executable, "-m segtrain train", *own, *(f"'{word}'" for word in (*OVERRIDES, *overrides))])


def test_a_preempted_job_goes_on_in_its_folder_and_ends_as_a_run_never_stopped(slurm: Cluster) -> None:
    job = slurm.submit(script(train("+callbacks.preempt={_target_:mycallbacks.Preempt}")))
    whole = run_segtrain("train", *OVERRIDES, "trainer=ddp_cpu", "dataset.root=bands", "name=whole", cwd=slurm.folder)
    assert whole.returncode == 0, whole.stderr
    slurm.start_now(job)
    facts = slurm.wait_for_state(job, "COMPLETED", "FAILED")
    output = slurm.output(job)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), output
    assert output.count(f"SLURM runs job {job} again") == 1
    assert "stopped by SIGUSR1 after step 2; the job that SLURM runs again goes on" in output
    assert "last.ckpt, epoch 1, batch 3" in output
    assert "Traceback" not in output
    runs = slurm.folder / "outputs" / "runs"
    (reference,) = runs.glob("whole-*")
    assert_same_end(runs / f"train-slurm-{job}-0", reference)


def assert_same_end(run: Path, reference: Path) -> None:
    """Compare weights, average and optimizer to the bit, and the rows of metrics.csv."""
    ours, theirs = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, reference))
    for key in ("state_dict", "training_state_dict"):
        assert ours[key].keys() == theirs[key].keys()
        assert all(torch.equal(tensor, ours[key][name]) for name, tensor in theirs[key].items())
    rows, other_rows = (list(csv.DictReader((r / "metrics.csv").open())) for r in (run, reference))
    for row, other_row in zip(rows, other_rows, strict=True):
        for column in ("epoch", "step", "val/miou", "val/loss"):
            assert row[column] == other_row[column]


def test_a_killed_task_ends_the_job_within_a_minute(slurm: Cluster) -> None:
    job = slurm.submit(script(train("+callbacks.kill={_target_:mycallbacks.Kill}", "name=killed")))
    deadline = time.monotonic() + 180
    while not (slurm.folder / "killed").exists():
        assert time.monotonic() < deadline, slurm.output(job)
        time.sleep(0.1)
    facts = slurm.wait_for_state(job, "FAILED", "COMPLETED", timeout=60)
    assert (facts["JobState"], facts["Restarts"]) == ("FAILED", "0")
    assert "task 1: Killed" in slurm.output(job)


ASK = """\
import logging, os, signal, sys, time
from segtrain.clusters.slurm import requeue_job, this_task
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
def ask(number, frame):
    requeue_job()
    sys.exit(75)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, ask)
print(this_task(), "restart", os.environ.get("SLURM_RESTART_COUNT"), flush=True)
time.sleep(60 if "SLURM_RESTART_COUNT" not in os.environ else 0)
"""


def wait_for_output(slurm: Cluster, job: str, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in slurm.output(job):
        assert time.monotonic() < deadline, slurm.output(job)
        time.sleep(0.1)


def test_a_job_is_run_again_when_it_is_signalled_and_not_when_a_user_ends_it(slurm: Cluster) -> None:
    (slurm.folder / "ask.py").write_text(ASK)
    text = f"#!/bin/bash\n#SBATCH --open-mode=append\nsrun --kill-on-bad-exit=1 {sys.executable} ask.py\n"
    preempted, final, cancelled = (slurm.submit(text, *options) for options in ((), ("--no-requeue",), ()))
    for job in (preempted, final, cancelled):
        wait_for_output(slurm, job, "restart None")
    slurm.call("scancel", "--signal=USR1", preempted, final)
    slurm.call("scancel", cancelled)
    slurm.start_now(preempted)
    assert slurm.wait_for_state(cancelled, "CANCELLED", "PENDING", "COMPLETED")["JobState"] == "CANCELLED"
    assert f"SLURM is ending job {cancelled} itself" in slurm.output(cancelled)
    assert slurm.wait_for_state(final, "FAILED", "PENDING", "COMPLETED")["JobState"] == "FAILED"
    assert f"SLURM does not run job {final} again: Requested operation is presently disabled" in slurm.output(final)
    facts = slurm.wait_for_state(preempted, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), (facts, slurm.output(preempted))
    assert "restart 1" in slurm.output(preempted)


def test_tasks_are_where_slurm_put_them(slurm: Cluster) -> None:
    command = (
        "from segtrain.clusters.slurm import this_task; t = this_task(); "
        "print(t.rank, t.local_rank, t.neighbours, t.count)"
    )
    lines = slurm.call("srun", "--nodes=2", "--ntasks=3", "--overcommit", sys.executable, "-c", command)
    assert sorted(lines.splitlines()) == ["0 0 2 3", "1 1 2 3", "2 0 1 3"]
