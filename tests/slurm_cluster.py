"""A real SLURM of two small machines, both of them this one, from Debian's packages; for as long as a test needs it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "scancel")
MACHINES = ("n1", "n2")

# config_overrides: CPUs=2 is believed on any machine
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={control}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
KillWait=10
JobRequeue=1
{machines}
PartitionName=debug Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """A SLURM that runs.

    Args:
        folder: its files, and the folder in which jobs run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SEGTRAIN_RUN"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def call(self, *command: str, timeout: float = 60) -> str:
        """Run one of SLURM's commands and return what it prints."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit a job's script; return its id. What it prints goes to `ID.out` in the folder."""
        path = self.folder / "job.sh"
        path.write_text(script)
        return self.call("sbatch", "--parsable", f"--output={self.folder}/%j.out", *options, str(path))

    def output(self, job: str) -> str:
        """Return what a job has printed."""
        path = self.folder / f"{job}.out"
        return path.read_text(errors="replace") if path.is_file() else ""

    def facts(self, job: str) -> dict[str, str]:
        """Return what SLURM knows about a job: JobState, Reason, Restarts, ExitCode, ..."""
        words = self.call("scontrol", "show", "job", job, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def start_now(self, job: str) -> None:
        """Start a requeued job, which would wait for two minutes; machines refuse it in the second of its end."""
        self.wait_for_state(job, "PENDING")
        time.sleep(2)
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def wait_for_state(self, job: str, *states: str, timeout: float = 180) -> dict[str, str]:
        """Return a job's facts once it is in one of these states."""
        deadline = time.monotonic() + timeout
        while (facts := self.facts(job))["JobState"] not in states:
            assert time.monotonic() < deadline, (facts, self.output(job))
            time.sleep(0.2)
        return facts


@contextmanager
def running_slurm(folder: Path) -> Iterator[Cluster]:
    """Start a SLURM in an empty folder and stop it, with all of its jobs; skip where its packages are missing."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client")
    cluster = Cluster(folder)
    control, *ports = free_ports(1 + len(MACHINES))
    host = socket.gethostname().split(".")[0]
    machines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN"
        for name, port in zip(MACHINES, ports, strict=True)
    ]
    (folder / "slurm.conf").write_text(
        CONF.format(
            host=host,
            user=getpass.getuser(),
            folder=folder,
            control=control,
            machines="\n".join(machines),
            names=",".join(MACHINES),
        )
    )
    for name in ("state", *(f"spool-{name}" for name in MACHINES)):
        (folder / name).mkdir()
    with ExitStack() as stack:
        for command in (["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in MACHINES)):
            stack.enter_context(daemon(command, cluster))
        wait_until_idle(cluster)
        try:
            yield cluster
        finally:
            end_jobs(cluster)


@contextmanager
def daemon(command: list[str], cluster: Cluster) -> Iterator[None]:
    """Run one of SLURM's daemons."""
    with (cluster.folder / "daemons.log").open("a") as log:
        process = subprocess.Popen(command, cwd=cluster.folder, env=cluster.environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_idle(cluster: Cluster, timeout: float = 60) -> None:
    """Wait until all machines can take jobs."""
    deadline = time.monotonic() + timeout
    while True:
        done = subprocess.run(["sinfo", "-h", "-o", "%T %D"], env=cluster.environment, capture_output=True, text=True)
        if done.stdout.split() == ["idle", str(len(MACHINES))]:
            return
        logs = "\n".join(path.read_text() for path in cluster.folder.glob("*.log"))
        assert time.monotonic() < deadline, f"SLURM does not start: {done.stdout}{done.stderr}\n{logs}"
        time.sleep(0.1)


def end_jobs(cluster: Cluster, timeout: float = 30) -> None:
    """End all jobs, and wait for the last of their processes."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done = subprocess.run(["squeue", "-h", "-o", "%i"], env=cluster.environment, capture_output=True, text=True)
        if not done.stdout.split():
            return
        subprocess.run(["scancel", "--signal=KILL", "--full", *done.stdout.split()], env=cluster.environment)
        subprocess.run(["scancel", *done.stdout.split()], env=cluster.environment)
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
