"""Commands named as SLURM's for tests that have none: they answer in its words and note what they were asked."""

import os
from pathlib import Path

import pytest

# SLURM's commands as they answer: jobs are numbered from 7, and each one's facts lie in a file of its number
COMMANDS = {
    "sbatch": """
[ -f $HERE/full ] && [ -f $HERE/7 ] && { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }
if grep -q partition=wrong "$1"; then
    echo "sbatch: error: invalid partition specified: wrong" >&2
    echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
    exit 1
fi
id=$((7 + $(ls $HERE | grep -c '^job-')))
cp "$1" $HERE/job-$id.sh
env > $HERE/environment
echo "JobState=RUNNING Restarts=0 ExitCode=0:0" > $HERE/$id
echo "Submitted batch job $id"
""",
    "srun": "exit 1",
    "scontrol": """
echo scontrol "$@" >> $HERE/calls
[ "$1" = show ] || exit 0
if [ -f $HERE/silent ] || [ -f $HERE/silent-$4 ]; then
    echo "slurm_load_jobs error: Unable to contact slurm controller" >&2
    exit 1
fi
for last; do :; done
[ -f $HERE/$last ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
echo "JobId=$last $(cat $HERE/$last)"
""",
    "scancel": """
echo scancel "$@" >> $HERE/calls
for last; do :; done
echo "JobState=CANCELLED Restarts=0 ExitCode=0:15" > $HERE/$last
""",
    "sinfo": "echo gpu; echo cpu",
}


class Cluster:
    """Commands named as SLURM's, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, job: int, state: str, *, code: str = "0:0", restarts: int = 0) -> None:
        (self.folder / str(job)).write_text(f"JobState={state} Restarts={restarts} ExitCode={code} Reason=None\n")

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [line for line in lines if not line.startswith("scontrol show")]

    def submitted(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("job-*.sh"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, body in COMMANDS.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\nHERE={folder}\n{body}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return Cluster(folder)
