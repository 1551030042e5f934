"""Is a search on a real SLURM whole when a worker is preempted, another is killed, and Ctrl-C ends it?"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from conftest import BANDS, write_bands
from slurm_cluster import Cluster, running_slurm

pytestmark = pytest.mark.slow

# a trial waits in its second step, once, until it is let go on or asked to stop
CALLBACKS = """\
import os, time
import pytorch_lightning as pl
from segtrain.callbacks.stop import StopOnSignal
class Hold(pl.Callback):
    def __init__(self, name):
        self.name = name
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != 1 or os.path.exists(f"{self.name}/release"):
            return
        os.makedirs(self.name, exist_ok=True)
        run = os.path.basename(trainer.default_root_dir)
        open(f"{self.name}/{run}", "w").close()
        (stop,) = [callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal)]
        deadline = time.monotonic() + 200
        while not stop.received and not os.path.exists(f"{self.name}/release") and time.monotonic() < deadline:
            time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        (cluster.folder / "mycallbacks.py").write_text(CALLBACKS)
        write_bands(cluster.folder / "bands")
        yield cluster


class Sweep:
    """A search and its command."""

    def __init__(self, slurm: Cluster, study: str, *, n_trials: int) -> None:
        self.slurm = slurm
        self.held = slurm.folder / f"held-{study}"
        self.folder = slurm.folder / "outputs" / "sweeps" / study
        self.command = [
            *(
                sys.executable,
                "-m",
                "segtrain",
                "sweep",
                *BANDS,
                "dataset.root=bands",
                f"study={study}",
                f"n_trials={n_trials}",
            ),
            *("launcher=slurm", "slurm.cpus_per_task=1", "trainer.max_epochs=1", "sweep.pruner=none"),
            f"+callbacks.hold={{_target_:mycallbacks.Hold,name:held-{study}}}",
        ]

    def __enter__(self) -> "Sweep":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        self.output = self.slurm.folder / f"{self.folder.name}.txt"
        with self.output.open("a") as file:
            self.process = subprocess.Popen(
                self.command, cwd=self.slurm.folder, env=self.slurm.environment, stdout=file, stderr=file
            )

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.everything()
            time.sleep(0.1)

    def holding(self) -> set[str]:
        return {path.name for path in self.held.glob("0*")}

    def release(self) -> None:
        (self.held / "release").touch()

    def end(self) -> int:
        self.wait_until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def everything(self) -> str:
        logs = [self.output, *self.folder.glob("slurm/*log.out"), *self.folder.glob("trials/*/console.log")]
        return "\n".join(f"== {path}\n{path.read_text()}" for path in logs)

    def trials(self) -> list[dict[str, object]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("trials/*/trial.json"))]


def kill_processes_of(slurm: Cluster, job: str) -> None:
    """Kill a worker and its trials at once; of `scancel --signal=KILL` SLURM makes an orderly end."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            here = (process / "cwd").resolve() == slurm.folder  # another cluster may have a job of this number
        except OSError:
            continue
        worker = f"SLURM_JOB_ID={job}".encode() in environment and command[1:3] == [b"-u", b"-m"]
        if here and (worker or f"SEGTRAIN_SWEEP_JOB={job}".encode() in environment):
            os.kill(int(process.name), signal.SIGKILL)


def test_a_preempted_and_a_killed_worker_cost_no_trial_and_repeat_none(slurm: Cluster) -> None:
    with Sweep(slurm, "lost", n_trials=3) as sweep:
        sweep.wait_until(lambda: len(sweep.holding()) == 2)
        slurm.call("scancel", "--signal=USR2", "1")
        slurm.wait_for_state("1", "PENDING")  # its trial has saved, and it has asked to be run again
        kill_processes_of(slurm, "2")
        sweep.wait_until(lambda: "job 3 comes in its place" in sweep.output.read_text())
        slurm.start_now("1")
        sweep.release()
        assert sweep.end() == 0, sweep.everything()
        said = sweep.output.read_text()
        assert "worker job 2 ended (SLURM's state FAILED, killed by signal 9)" in said
        assert [trial["state"] for trial in sweep.trials()] == ["complete"] * 3, sweep.everything()
        assert len({json.dumps(trial["parameters"]) for trial in sweep.trials()}) == 3
        begun = json.loads((sweep.folder / "sweep.json").read_text())["command"]
        assert "launcher=slurm" in begun
        assert "launcher=local" not in begun, "it is the user's command, not a worker's"
        study = optuna.load_study(study_name="lost", storage=f"sqlite:///{sweep.folder / 'study.db'}")
        states = [trial.state.name for trial in study.trials]
        assert states.count("COMPLETE") == 3
        again = {
            trial.user_attrs["again"]: trial.user_attrs["tries"]
            for trial in study.trials
            if "again" in trial.user_attrs
        }
        assert sorted(again) == [0, 1]
        assert sorted(again.values()) == [0, 1], "the preempted trial is no lost one, and the killed one is"
        (resumed,) = [
            text for path in sweep.folder.glob("trials/*/console.log") if "resuming" in (text := path.read_text())
        ]
        assert "stopped by SIG" in resumed
        assert "last.ckpt, epoch 1, batch 3" in resumed


def test_ctrl_c_ends_the_workers_whose_trials_save_and_the_same_command_goes_on(slurm: Cluster) -> None:
    with Sweep(slurm, "ended", n_trials=2) as sweep:
        sweep.wait_until(lambda: len(sweep.holding()) == 2)
        sweep.process.send_signal(signal.SIGINT)
        sweep.end()
        assert slurm.call("squeue", "--noheader") == "", sweep.everything()
        assert [trial["state"] for trial in sweep.trials()] == ["stopped", "stopped"], sweep.everything()
        sweep.release()
        sweep.start()
        assert sweep.end() == 0, sweep.everything()
        assert [trial["state"] for trial in sweep.trials()] == ["complete"] * 2, sweep.everything()
