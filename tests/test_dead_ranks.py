"""Does a rank that dies or fails end the whole run within a minute, with its error alone on the terminal?"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import BANDS, only_run, write_bands

WITHIN = 60  # seconds
FAULTY = """\
import multiprocessing, os, signal, time
from pathlib import Path
import pytorch_lightning as pl

class Fault(pl.Callback):
    def __init__(self, kind: str, rank: int = 1, place: str = "batch"):
        self.kind, self.rank, self.place = kind, rank, place
        if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == rank:
            self.come(None, "build")

    def come(self, trainer, place):
        if place == self.place and (trainer is None or (trainer.global_rank == self.rank and trainer.global_step > 1)):
            Path("fault").write_text(str(time.time()))
            getattr(self, self.kind)()

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def bug(self):
        raise RuntimeError("shapes differ")

    def worker(self):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    def interrupt(self):
        os.killpg(0, signal.SIGINT)
        time.sleep(1)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.come(trainer, "batch")

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.come(trainer, "validation")
"""
LIGHTNING = ("-m", "segtrain")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "segtrain")


@dataclass
class Ended:
    """How a run of two ranks ended."""

    status: int
    err: str
    seconds: float  # from the fault to the end of the last process
    run: Path | None

    @property
    def said(self) -> list[str]:
        """The lines of segtrain itself."""
        return [line for line in self.err.splitlines() if line.startswith("segtrain: ")]

    @property
    def log(self) -> str:
        return "" if self.run is None else (self.run / "train.log").read_text()


def run_two(folder: Path, launcher: tuple[str, ...], fault: str | None, *overrides: str) -> Ended:
    """Train by two ranks, and wait until none of their processes is left."""
    (folder / "faulty.py").write_text(FAULTY)
    root = write_bands(folder / "bands")
    own = [] if fault is None else [f"+callbacks.fault={{_target_:faulty.Fault,{fault}}}"]
    arguments = (*BANDS, f"dataset.root={root}", "trainer=ddp_cpu", "trainer.max_epochs=100", "test=false")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("SEGTRAIN_RUN_ID", None)
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *launcher, "train", *arguments, "checkpoint.every_n_steps=1", *own, *overrides],
            cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    try:
        process.wait(240)
        while working_in(folder):
            time.sleep(0.1)
            assert time.time() - float((folder / "fault").read_text()) < WITHIN, "a rank is left"
    finally:
        for pid in working_in(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    seconds = time.time() - float((folder / "fault").read_text()) if (folder / "fault").exists() else 0.0
    run = only_run(folder) if (folder / "outputs").exists() else None
    return Ended(process.returncode, (folder / "err").read_text(), seconds, run)


def working_in(folder: Path) -> list[int]:
    """Return the processes whose current folder this is; torchrun gives each rank a session of its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder:
                found.append(int(path.parent.name))
    return found


def test_a_killed_rank_ends_the_run_and_is_named_with_the_way_to_go_on(tmp_path: Path) -> None:
    ended = run_two(tmp_path, LIGHTNING, "kind:kill")
    assert ended.status == 1
    assert ended.seconds < WITHIN
    sentence = (
        "rank 1 was killed by signal 9 (SIGKILL), as the system does when memory runs out; go on with: segtrain train "
        f"resume={ended.run}"
    )
    assert ended.err == f"segtrain: {sentence}\n"
    assert sentence in ended.log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        (
            "kind:kill,place:build",
            1,
            "rank 1 was killed by signal 9 (SIGKILL), as the system does when memory runs out",
        ),
        ("kind:kill,rank:0", -9, "rank 0 has died without a word, perhaps because memory ran out; go on with: "),
        ("kind:interrupt", 1, "interrupted; go on with: segtrain train resume="),
    ],
    ids=["while building", "rank 0", "Ctrl-C"],
)
def test_the_end_of_a_rank_is_one_sentence(tmp_path: Path, fault: str, status: int, sentence: str) -> None:
    ended = run_two(tmp_path, LIGHTNING, fault)
    assert ended.status == status
    assert ended.seconds < WITHIN
    assert len(ended.said) == 1, ended.err
    assert ended.said[0].startswith(f"segtrain: {sentence}")
    assert ended.said[0].removeprefix("segtrain: ") in ended.log
    assert "pair.cc" not in ended.err


@pytest.mark.slow
def test_the_bug_of_one_rank_is_told_last_with_its_traceback_and_what_follows_is_not(tmp_path: Path) -> None:
    ended = run_two(tmp_path, LIGHTNING, "kind:bug")
    assert ended.status == 1
    assert ended.seconds < WITHIN
    assert ended.err.count("Traceback (most recent call last)") == 1
    assert ended.err.splitlines()[-2] == "RuntimeError: shapes differ"
    last = f"rank 1 failed: RuntimeError: shapes differ; go on with: segtrain train resume={ended.run}"
    assert ended.err.splitlines()[-1] == f"segtrain: {last}"
    assert last in ended.log


@pytest.mark.slow
def test_torchrun_names_the_killed_rank_and_its_ranks_the_way_to_go_on(tmp_path: Path) -> None:
    ended = run_two(tmp_path, TORCHRUN, "kind:kill,place:validation")
    assert ended.status == 1
    assert ended.seconds < WITHIN
    sentence = (
        f"rank 1 has died without a word, perhaps because memory ran out; go on with: segtrain train resume={ended.run}"
    )
    assert ended.said == [f"segtrain: {sentence}"]
    assert sentence in ended.log
    assert "pair.cc" not in ended.err
    root_cause = ended.err.split("Root Cause")[1]
    assert "rank      : 1 " in root_cause
    assert "(SIGKILL)" in root_cause


@pytest.mark.slow
def test_a_loader_worker_that_dies_on_one_rank_is_torchruns_root_cause(tmp_path: Path) -> None:
    ended = run_two(tmp_path, TORCHRUN, "kind:worker", "loader.num_workers=1")
    assert ended.status == 1
    assert ended.seconds < WITHIN
    assert len(ended.said) == 1, ended.err
    assert ended.said[0].startswith("segtrain: rank 1: a process that loads samples died (DataLoader worker (pid")
    assert "traceback : rank 1: a process that loads samples died" in ended.err.split("Root Cause")[1]
    assert "pair.cc" not in ended.err


@pytest.mark.slow
def test_a_mistake_of_all_ranks_is_one_sentence(tmp_path: Path) -> None:
    ended = run_two(tmp_path, TORCHRUN, None, "dataset.root=nowhere")
    assert ended.status == 1
    assert len(ended.said) == 1, ended.err
    assert "nowhere/train: no such folder; is dataset.root right?" in ended.said[0]
