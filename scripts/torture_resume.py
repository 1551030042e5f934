"""Does a run that is killed with `kill -9` again and again end bit-equal to one that was never stopped?

Trains on the built-in nuclei images once in peace. Then trains the same in another folder, kills it at random moments
(in start-up, training, validation, test, while a checkpoint is written; all of its processes or one of them) and
resumes it, until it has been killed so often and has come to its end; then compares the two:

    python scripts/torture_resume.py --kills 20
    python scripts/torture_resume.py --kills 20 --processes 2 --seed 7
    python scripts/torture_resume.py --kills 5 trainer.max_epochs=4 model=unet     # any override of `segtrain train`

Prints a line a kill and ends with status 1 if the two differ, a resume fails, or a killed run leaves a process behind.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import compare_runs
from torture_watch import VARIABLE, WIDTH

SETTINGS = (
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=8",
    "trainer.check_val_every_n_epoch=2",
    "trainer.log_every_n_steps=1",
    "model=deeplabv3plus",  # has dropout: every step draws random numbers
    "model/encoder=mobilenet_v3_small",
    "dataset.fraction=0.3",
    "dataset.crop_size=64",
    "loader.batch_size=4",
    "loader.num_workers=1",
    "checkpoint.every_n_steps=3",
    "scheduler.warmup_fraction=0.1",
)
PHASES = {"start-up": 3, "training": 8, "writing": 5, "validation": 2, "test": 2}  # how often, relative to each other
LONGEST = 60.0  # seconds that the rest of a killed run may live


@dataclass
class Kill:
    """When, and whom: a phase of the run, the step that must be reached, and seconds waited from then on."""

    phase: str
    step: int
    wait: float
    victim: str


class Run:
    """One training run: started, watched, killed, resumed."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        self.folder = folder
        self.overrides = overrides
        self.place_file = folder / "place"
        self.output = folder / "output.txt"
        folder.mkdir()

    def path(self) -> Path | None:
        """Return the run folder: the newest, as a run without a checkpoint is started anew."""
        return max((self.folder / "outputs" / "runs").glob("*"), key=lambda path: path.stat().st_mtime_ns, default=None)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the run, or resume it if it has a checkpoint, in a session of its own."""
        path = self.path()
        resumable = path is not None and any((path / "checkpoints").glob("*.ckpt"))
        arguments = [f"resume={path}", "trust=[torture_watch]"] if resumable else self.overrides
        self.place_file.write_text("start-up".ljust(WIDTH))
        scripts = str(Path(__file__).parent)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: str(self.place_file)}
        environment["PYTHONPATH"] = os.pathsep.join([scripts, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.output.open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "segtrain", "train", *arguments],
                cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def place(self) -> tuple[str, int]:
        """Return what the run is doing, and its step."""
        phase, _, step = self.place_file.read_text().strip().partition(" ")
        return phase, int(step or 0)

    def resumed_at(self) -> str:
        """Return where the output says that the run began."""
        found = re.search(r"resuming from .*/(\S+), (epoch \d+, batch \d+)", self.output.read_text())
        return f"{found[2]} ({found[1]})" if found else "the beginning"


def processes(session: int) -> dict[int, str]:
    """Return {id: rank 0, rank 1, worker} of the living processes of a session."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) != session or state == "Z":
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((v.split(b"=")[1].decode() for v in variables if v.startswith(b"LOCAL_RANK=")), "0")
        found[int(folder.name)] = (int(parent), f"rank {rank}")
    return {pid: "worker" if found.get(parent, (0, ""))[1] == role else role for pid, (parent, role) in found.items()}


def plan(kills: int, *, steps: int, start_up: float, several: bool, rng: random.Random) -> list[Kill]:
    """Return random kills in the order of their steps, those in the test at the end."""
    victims = ["all", "rank 0", "rank 1"] if several else ["all", "all", "rank 0", "worker"]
    phases = rng.choices(list(PHASES), list(PHASES.values()), k=kills)
    if kills > 1:
        phases[:2] = ["start-up", "writing"]  # before there is a checkpoint, and at the first
    early = sum(phase != "test" for phase in phases)
    at = sorted(rng.randrange(steps) for _ in range(early)) + [steps] * (kills - early)
    phases.sort(key=lambda phase: phase == "test")
    wait = {"start-up": 0.9 * start_up, "training": 0.1, "writing": 0.05, "validation": 0.5, "test": 0.5}
    return [Kill(p, s, rng.uniform(0, wait[p]), rng.choice(victims)) for p, s in zip(phases, at, strict=True)]


def strike(run: Run, process: subprocess.Popen[bytes], kill: Kill) -> str | None:
    """Wait for the kill's moment and kill; return what the run was doing, None if it ended before."""
    while kill.phase != "start-up":
        phase, step = run.place()
        if phase == kill.phase and step >= kill.step:
            break
        if process.poll() is not None:
            return None
        time.sleep(0.001)
    struck = time.monotonic() + kill.wait
    # a start-up may be shorter than that of the run which nobody stops, by which its seconds were drawn
    while time.monotonic() < struck and (kill.phase != "start-up" or run.place()[0] == "start-up"):
        time.sleep(0.001)
    there = processes(process.pid)
    phase, step = run.place()
    victims = [pid for pid, role in there.items() if role == kill.victim] or list(there)
    if not there:
        return None
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    whom = kill.victim if kill.victim in there.values() else "all"
    return f"{phase}, step {step}: {whom}"


def rest(process: subprocess.Popen[bytes]) -> float:
    """Wait until nothing is left of a killed run; return the seconds, and end what is left after the longest."""
    began = time.monotonic()
    while processes(process.pid) and time.monotonic() - began < LONGEST:
        process.poll()
        time.sleep(0.05)
    seconds = time.monotonic() - began
    for pid in processes(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return seconds


def torture(run: Run, kills: list[Kill]) -> tuple[bool, int]:
    """Kill and resume; return whether the run came to its end with nothing left behind, and how often it was killed."""
    good, killed = True, 0
    print(f"{'kill':>4}  {'what it was doing, and who was killed':<42}{'resumed at':<34}{'rest gone after':>15}")
    for number, kill in enumerate([*kills, None], 1):
        process = run.start()
        done = strike(run, process, kill) if kill else None
        killed += done is not None
        if done is None:
            process.wait()
        seconds = rest(process)
        doing = done or f"came to its end with status {process.returncode}"
        print(f"{number if kill else '':>4}  {doing:<42}{run.resumed_at():<34}{seconds:>13.1f} s", flush=True)
        if (done is None and process.returncode != 0) or seconds >= LONGEST:
            print(run.output.read_text()[-3000:])
            good = False
            break
    return good, killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often the run is killed")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1, help="2 train with trainer=ddp_cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, as far as a clock can be seeded")
    parser.add_argument("--keep", type=Path, help="a new folder for the two runs; without it they are removed")
    arguments, own = parser.parse_known_args()
    several = arguments.processes > 1
    overrides = [*SETTINGS, "+callbacks.watch={_target_:torture_watch.Watch}", *(["trainer=ddp_cpu"] * several), *own]
    overrides = [o for o in overrides if not (several and o == "trainer=cpu")]
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    whole = Run(folder / "whole", overrides)
    process = whole.start()
    while whole.place()[0] == "start-up" and process.poll() is None:
        time.sleep(0.05)
    start_up = time.monotonic() - began
    if process.wait():
        sys.exit(f"the run that nobody stops failed:\n{whole.output.read_text()[-3000:]}")
    whole_run = whole.path()
    assert whole_run is not None
    steps = compare_runs.checkpoint(whole_run, "last.ckpt")["global_step"]
    print(f"never stopped: {steps} steps, {time.monotonic() - began:.0f} s, of which {start_up:.0f} s start-up\n")
    killed = Run(folder / "killed", overrides)
    rng = random.Random(arguments.seed)
    good, count = torture(killed, plan(arguments.kills, steps=steps, start_up=start_up, several=several, rng=rng))
    if good:
        killed_run = killed.path()
        assert killed_run is not None
        print()
        good = compare_runs.report(compare_runs.differences(whole_run, killed_run))
    if count < arguments.kills:
        print(f"\nonly {count} of {arguments.kills} kills met the run: it came to its end before them")
        good = False
    print(f"\n{count} kills, {arguments.processes} processes: "
          f"{'bit-equal' if good else 'NOT EQUAL'}, in {time.monotonic() - began:.0f} s")  # fmt: skip
    if arguments.keep is None:
        shutil.rmtree(folder)
    sys.exit(not good)


if __name__ == "__main__":
    main()
