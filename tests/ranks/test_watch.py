"""Is a rank that dies or fails noticed by the others, whatever their main threads do?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segtrain.errors import UserError
from segtrain.ranks import watch as watches
from segtrain.ranks.alive import Alive
from segtrain.ranks.ending import Terminated, how_ended, how_lost, lost_another
from segtrain.ranks.first_error import Told, claim
from segtrain.ranks.job import _Job, together
from segtrain.ranks.watch import Watch

ROOT = Path(__file__).parents[2]
# as its loader's workers, its own child has all that it has opened
RANK_1 = """\
import os, sys, time
from pathlib import Path
from segtrain.ranks.alive import Alive
alive = Alive(Path(sys.argv[1]), 1)
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("ready", flush=True)
sys.stdin.readline()
alive.leave()
"""
GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:7. This is typical"
)


@pytest.fixture
def rank_1(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that lives as rank 1 until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", RANK_1, str(tmp_path / "here")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_a_killed_rank_is_seen_to_be_dead_though_its_workers_live(
    rank_1: subprocess.Popen[str], tmp_path: Path
) -> None:
    alive = Alive(tmp_path / "here", 0)
    assert alive.dead() is None
    assert alive.others()
    rank_1.kill()
    rank_1.wait()
    assert alive.dead() == 1
    assert not alive.others()


def test_a_rank_that_ends_in_order_is_not_dead(rank_1: subprocess.Popen[str], tmp_path: Path) -> None:
    alive = Alive(tmp_path / "here", 0)
    assert rank_1.stdin is not None
    rank_1.stdin.write("\n")
    rank_1.stdin.flush()
    rank_1.wait()
    assert alive.dead() is None
    assert not alive.others()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return the watch of rank 0, not started, with two children; only short waits."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(watches, "GRACE", 0.2)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    return Watch(run, tmp_path / "segtrain-here", [subprocess.Popen(["sleep", "30"]) for _ in range(2)])


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGKILL, "signal 9 (SIGKILL)"), (signal.SIGSEGV, "signal 11")]
)
def test_a_killed_child_is_named_with_its_signal_and_the_way_to_go_on(
    watch: Watch, number: int, expected: str, capsys: Any
) -> None:
    assert watch.trouble() is None
    watch.children[1].send_signal(number)
    watch.children[1].wait()
    watch.fail(RuntimeError(GLOO))
    err = capsys.readouterr().err
    assert err.startswith(f"segtrain: rank 2 was killed by {expected}")
    assert err.endswith(f"; go on with: segtrain train resume={watch.run_folder}\n")
    assert err.count("\n") == 1
    log = (watch.run_folder / "train.log").read_text()
    assert "rank 0 has lost the connection to another (Connection closed by peer [10.0.0.2]:7)\n" in log
    assert all(child.poll() is not None for child in watch.children), "a rank is left"
    assert not watch.folder.exists()


@pytest.mark.parametrize("status", [0, 75])
def test_a_child_that_is_done_or_was_stopped_is_no_trouble(watch: Watch, status: int) -> None:
    child = subprocess.Popen(["sh", "-c", f"exit {status}"])
    child.wait()
    watch.children[0].kill()
    watch.children[:] = [child]
    assert watch.trouble() is None


def test_what_follows_from_another_rank_is_a_line_in_the_log_alone(watch: Watch, capsys: Any) -> None:
    claim(watch.folder, Told(1, "here", "rank 1: a.png is broken"))
    watch.fail(RuntimeError(GLOO))
    assert capsys.readouterr().err == ""
    assert "rank 0 has lost the connection" in (watch.run_folder / "train.log").read_text()


def test_a_lost_connection_that_nobody_explains_is_told(watch: Watch, capsys: Any) -> None:
    watch.fail(RuntimeError(GLOO))
    assert capsys.readouterr().err.startswith("segtrain: rank 0 has lost the connection to another (Connection closed")


def test_a_bug_is_told_with_its_traceback_and_a_mistake_without(watch: Watch, tmp_path: Path, capsys: Any) -> None:
    def loss() -> None:
        raise RuntimeError("shapes differ")

    try:
        loss()
    except RuntimeError as error:
        watch.fail(error)
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert "in loss\n" in err
    assert err.splitlines()[-1].startswith("segtrain: rank 0 failed: RuntimeError: shapes differ; go on with: ")
    other = Watch(tmp_path / "none", tmp_path / "there")
    other.fail(UserError("a.png: cannot be read"))
    assert capsys.readouterr().err == "segtrain: rank 0: a.png: cannot be read\n"


def test_a_rank_that_torchrun_ends_tells_of_the_dead_one(
    rank_1: subprocess.Popen[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    other = Watch(tmp_path / "none", tmp_path / "here")
    rank_1.kill()
    rank_1.wait()
    other.fail(Terminated(143))
    assert capsys.readouterr().err == "segtrain: rank 1 has died without a word, perhaps because memory ran out\n"


def test_a_rank_whose_launcher_is_gone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Watch(tmp_path / "none", tmp_path / "here")
    assert other.trouble() is None
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert other.trouble() == f"the process that started rank {other.rank} has ended"


# as a rank that waits in a collective of NCCL: its main thread gets no error
HANGS = """\
import sys, time
from pathlib import Path
from segtrain.ranks import together, watch
watch.GRACE = 0.5
def wait_for_the_gradients():
    print("ready", flush=True)
    time.sleep(60)
with together(Path(sys.argv[1])):
    wait_for_the_gradients()
"""


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_rank_that_waits_for_one_that_is_gone_ends_and_says_where_it_was(
    how: str, rank_1: subprocess.Popen[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    here = tmp_path / "here"
    environment = {
        **os.environ, "TORCHELASTIC_ERROR_FILE": str(here / "0" / "error.json"), "RANK": "0", "WORLD_SIZE": "2",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(run)],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if how == "fails":
        claim(here, Told(1, "here", "rank 1: a.png is broken"))
    else:
        rank_1.kill()
        rank_1.wait()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    dead = "segtrain: rank 1 has died without a word, perhaps because memory ran out\n"
    assert err == ("" if how == "fails" else dead)
    log = (run / "train.log").read_text()
    assert "rank 0 was ended here:" in log
    assert "in wait_for_the_gradients\n" in log


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(GLOO), "has lost the connection to another (Connection closed by peer [10.0.0.2]:7)"),
        (
            RuntimeError("[/gloo/unbound_buffer.cc:129] Timed out waiting 1800000ms for send operation to complete"),
            "has waited for another in vain, which hangs or is stopped (Timed out waiting 1800000ms for send operation "
            "to complete)",
        ),
    ],
)
def test_what_gloo_says_is_put_into_words(error: RuntimeError, expected: str) -> None:
    assert lost_another(error)
    assert how_lost(error, 3) == f"rank 3 {expected}"


def test_only_errors_of_communication_follow_from_others() -> None:
    import torch.distributed as dist

    assert lost_another(dist.DistBackendError("NCCL communicator was aborted"))
    assert lost_another(dist.DistNetworkError("the client socket has failed to connect"))
    assert not lost_another(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    assert not lost_another(ValueError("Connection closed by peer"))


def test_an_exit_status_is_put_into_words() -> None:
    assert how_ended(3) == "ended with exit status 3"
    assert how_ended(-9) == "was killed by signal 9 (SIGKILL), as the system does when memory runs out"
    assert how_ended(-40) == "was killed by signal 40"


def test_a_trouble_that_is_over_ends_nobody(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segtrain.ranks.watch.POLL", 0.02)
    monkeypatch.setattr("segtrain.ranks.watch.GRACE", 0.3)
    troubles = iter(["a hiccup", "a hiccup"])
    monkeypatch.setattr(watch, "trouble", lambda: next(troubles, None))
    forced: list[bool] = []
    monkeypatch.setattr(watch, "_end_by_force", lambda: forced.append(True))
    watch.start()
    time.sleep(0.6)
    watch.leave()
    watch.join()
    assert not forced


def test_a_command_without_a_run_folder_leaves_nothing_where_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    for name, value in (("LOCAL_RANK", "1"), ("WORLD_SIZE", "2"), ("SEGTRAIN_RUN_ID", "x")):
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit), together(None):
            raise UserError("split: no such split")
    finally:
        assert _Job.watch is not None
        _Job.watch.leave()  # else it would end this process by force
        _Job.watch = None
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == "segtrain: rank 1: split: no such split\n"
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
