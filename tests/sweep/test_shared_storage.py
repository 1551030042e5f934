"""Do workers that share a study on PostgreSQL or SQLite do each trial once, and is a trial that moves told of?"""

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from conftest import BANDS, run_segtrain, write_bands
from postgres_server import PASSWORD, Server, running_postgres
from stub import Stub, finish, trials

from segtrain.sweep.database import open_database
from segtrain.sweep.samplers import SamplerSettings
from segtrain.sweep.storage import open_search
from segtrain.sweep.written_space import parse_space

pytestmark = pytest.mark.slow

# 56 combinations: of 40 draws several are repeats
SPACE = (
    "~sweep.space",
    "+sweep.space={optimizer.lr:'range(0.001,0.008,step=0.001)',loader.batch_size:'range(1,9)'}",
    "sweep.sampler=random",
    "sweep.pruner=none",
    "slots=1",
    "trainer=cpu",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgres() as running:
        yield running


def states(url: str, study: str) -> Counter[str]:
    """Return how many trials the study itself has in each state."""
    storage = open_database(url, heartbeat_interval=20, grace_period=120)
    return Counter(trial.state.name for trial in optuna.load_study(study_name=study, storage=storage).trials)


def check_search(stub: Stub, folder: Path, *, total: int) -> None:
    """Every trial was trained once, with values of its own, and is complete."""
    records = trials(folder)
    assert len(records) == total
    assert {record["state"] for record in records} == {"complete"}
    assert len({json.dumps(record["parameters"], sort_keys=True) for record in records}) == total
    runs = [call["run"] for call in stub.calls()]
    assert sorted(Path(run).name for run in runs) == sorted(path.name for path in (folder / "trials").iterdir())


def test_four_workers_on_a_postgresql_server_do_forty_trials_once_each(server: Server, tmp_path: Path) -> None:
    url = server.create_database("four")
    stub = Stub(tmp_path, *SPACE, f"storage={url}", "study=four", "n_trials=40", seconds=0.3)
    printed = finish(*(stub.start("machine") for _ in range(4)))
    folder = tmp_path / "machine" / "outputs" / "sweeps" / "four"
    check_search(stub, folder, total=40)
    assert states(url, "four")["COMPLETE"] == 40
    texts = [*printed, *(path.read_text() for path in folder.rglob("*") if path.suffix in (".log", ".json", ".csv"))]
    secrets = (PASSWORD, url.split(":")[2].split("@")[0])
    assert not [text for text in texts for secret in secrets if secret in text]


def test_two_workers_on_an_sqlite_file_of_the_current_folder_do_twelve_trials_once_each(tmp_path: Path) -> None:
    stub = Stub(tmp_path, *SPACE, "storage=sqlite:///shared.db", "study=two", "n_trials=12", seconds=0.3)
    finish(*(stub.start("machine") for _ in range(2)))
    check_search(stub, tmp_path / "machine" / "outputs" / "sweeps" / "two", total=12)
    assert states(f"sqlite:///{tmp_path}/machine/shared.db", "two")["COMPLETE"] == 12


def test_a_trial_that_a_machine_without_its_folder_takes_over_starts_anew_and_the_log_says_so(tmp_path: Path) -> None:
    stub = Stub(tmp_path, *SPACE, f"storage=sqlite:///{tmp_path}/shared.db", "study=far", "n_trials=2", seconds=3)
    first = stub.start("one")
    stub.wait_for_calls(1, first)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    (printed,) = finish(stub.start("two"))
    begun, *others = stub.calls()
    again = [call for call in others if Path(call["run"]).name == "0000"]
    assert [call["resumes"] for call in again] == [False]
    assert again[0]["optimizer.lr"] == begun["optimizer.lr"]
    assert "trial 0000 was begun elsewhere: its folder is not here, so it starts anew" in printed
    records = trials(tmp_path / "two" / "outputs" / "sweeps" / "far")
    assert [record["state"] for record in records] == ["complete", "complete"]


def test_four_workers_on_a_postgresql_server_share_real_trainings(server: Server, tmp_path: Path) -> None:
    url = server.create_database("real")
    overrides = [
        *BANDS,
        f"dataset.root={write_bands(tmp_path / 'bands')}",
        f"storage={url}",
        "study=real",
        "n_trials=6",
    ]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda _: run_segtrain("sweep", *overrides, "slots=1", cwd=tmp_path, timeout=500), range(4))
        )
    assert [each.returncode for each in done] == [0] * 4, [each.stderr for each in done]
    folder = tmp_path / "outputs" / "sweeps" / "real"
    records = trials(folder)
    assert len(records) == 6
    for record in records:
        assert record["state"] in ("complete", "pruned"), record
    for record, path in zip(records, sorted((folder / "trials").iterdir()), strict=True):
        if record["state"] == "complete":
            assert record["values"]["val/miou"] == json.loads((path / "metrics.json").read_text())["val/miou"]
    assert Counter(s for s in states(url, "real").elements() if s != "FAIL").total() == 6


def test_a_search_goes_on_when_its_postgresql_server_has_started_anew(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    search = open_search(
        server.create_database("anew"),
        "anew",
        space=parse_space({"a": "interval(0, 1)"}),
        objectives={"val/miou": "max"},
        overrides=[],
        settings=SamplerSettings(sampler="random", pruner="none", startup_trials=1, warmup=1, seed=0),
        n_trials=4,
        retries=2,
    )
    for number in range(4):
        asked = search.ask()
        assert asked is not None
        if number == 1:
            server.stop()
            back = threading.Timer(1, server.start)
            back.start()
        search.complete(asked, [0.5], {"seconds": 1.0})
    back.join()
    assert search.ask() is None
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 4
    assert "does not answer" in caplog.text
    assert PASSWORD not in caplog.text
