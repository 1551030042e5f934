"""Is a command that the tests fork from a warm process the one that a shell starts?"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BANDS, run_segtrain, write_bands
from warm import run_warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all commands are started anew")

NETWORK = """
import atexit, os, sys
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, num_classes, 1))
        print("a network in", os.getcwd(), os.environ.get("ITS_OWN"), sys.stdin.read(), "of", sys.argv)
        atexit.register(print, "over", file=sys.stderr)
        END
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("sys.exit('no more')", 1), ("[][1]", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_what_it_prints_and_how_it_ends_is_the_same(
    end: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_OWN", "4")
    (tmp_path / "mynet.py").write_text(NETWORK.replace("END", end))
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "net.yaml").write_text("# A network\n_target_: mynet.Net\nnum_classes: 3\n")
    root = write_bands(tmp_path / "bands")
    own = [argument for argument in BANDS if not argument.startswith("model.")]
    command = ("train", "--config-dir", "my", "model=net", *own, f"dataset.root={root}", "trainer.max_epochs=1")
    cold, warm = (run_segtrain(*command, cwd=tmp_path, warm=warm) for warm in (False, True))
    assert (
        warm.returncode == cold.returncode == {"pass": 0, "sys.exit(3)": 3, "os.kill(os.getpid(), 9)": -9}.get(end, 1)
    )
    assert f"a network in {tmp_path} 4  of" in cold.stdout or warm.returncode == -9
    assert _plain(warm.stdout) == _plain(cold.stdout)
    assert _plain(warm.stderr) == _plain(cold.stderr)


def _plain(text: str) -> list[str]:
    """Return the lines with one name for all runs, and without those of a traceback that say how it was started."""
    lines = re.sub(r"train-\d+-\d+-\w+", "RUN", text).splitlines()
    return [line for line in lines if "_run_module" not in line and "warm.py" not in line and "runpy" not in line]


def test_two_draw_other_random_numbers(tmp_path: Path) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "net.yaml").write_text("# A network\n_target_: mynet.Net\n")
    (tmp_path / "mynet.py").write_text("import random, numpy\nprint(random.random(), numpy.random.rand())\n")
    command = ("train", "--config-dir", "my", "model=net")
    drawn = [run_segtrain(*command, cwd=tmp_path).stdout.splitlines()[0].split() for _ in range(2)]
    assert len({*drawn[0], *drawn[1]}) == 4, drawn


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from warm import run_warm, _running\n"
    code += "assert run_warm(['--version'], cwd=Path(), environment=os.environ, timeout=60).returncode == 0\n"
    code += "print(*(f'{address} {server.pid}' for address, server in _running), flush=True)\n"
    code += "os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=os.environ, capture_output=True, text=True
    )
    address, pid = done.stdout.split()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(address).parent.exists()


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_warm(["train"], cwd=tmp_path, environment=os.environ, timeout=0.1)
    time.sleep(3)
    assert list(tmp_path.iterdir()) == []
