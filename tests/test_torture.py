"""Does a run end as if never stopped that was killed at random moments, with one process and with two?"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = ROOT / "scripts"
SHORT = ("trainer.max_epochs=4", "dataset.fraction=0.2")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_three_times_ends_bit_equal(processes: int, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "torture_resume.py"), "--kills", "3", "--processes", str(processes)]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path), *SHORT], capture_output=True, text=True, timeout=500, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"3 kills, {processes} processes: bit-equal" in done.stdout
    assert len(re.findall(r"^ +\d+  (?:start-up|training|writing|validation|test|end), step", done.stdout, re.M)) == 3
    if processes == 1:
        assert_that_differences_are_found(tmp_path)


def assert_that_differences_are_found(folder: Path) -> None:
    """Change a digit of the killed run's table and let the script compare once more."""
    whole, killed = ((folder / name / "outputs" / "runs") for name in ("whole", "killed"))
    runs = [max(path.iterdir(), key=lambda run: run.stat().st_mtime) for path in (whole, killed)]
    table = runs[1] / "metrics.csv"
    last = table.read_text().splitlines()
    table.write_text("\n".join([*last[:-1], last[-1].replace(".", ".1", 1)]) + "\n")
    compared = subprocess.run(
        [sys.executable, str(SCRIPTS / "compare_runs.py"), *map(str, runs)], capture_output=True, text=True, check=False
    )
    assert compared.returncode == 1
    assert re.search(r"metrics\.csv +1 differences, first row 3\.", compared.stdout), compared.stdout
