"""Is a storage that cannot be used, or a study of another search, one sentence without a password?"""

import builtins
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep.helpers import RANDOM, file_search

from segtrain.errors import UserError
from segtrain.sweep.storage import open_search
from segtrain.sweep.written_space import parse_space


def opened(url: str) -> Any:
    space = parse_space({"x": "interval(0, 1)"})
    facts: dict[str, Any] = {"objectives": {"val/miou": "max"}, "overrides": [], "settings": RANDOM}
    return open_search(url, "s", space=space, n_trials=1, retries=0, **facts)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////no/such/folder/study.db", "storage: sqlite:////no/such/folder/study.db cannot be reached"),
        ("study.db", "storage: 'study.db' is no address of a database, such as sqlite:///study.db"),
        ("sqlite:study.db", "storage: 'sqlite:study.db' is no address of a database"),
        (
            "nosuch://me:secret@host/db",
            r"storage: 'nosuch://me:\*\*\*@host/db' is no address of a database",
        ),
        (
            "postgresql://me:secret@127.0.0.1:PORT/db",
            r"storage: postgresql://me:\*\*\*@127.0.0.1:\d+/db cannot be reached",
        ),
        ("postgresql://me:secret@127.0.0.1:port/db", "storage: .* is no address of a database"),
        ("mysql+pymysql://me:secret@host/db", r"storage: mysql\+pymysql://me:\*\*\*@host/db needs a driver"),
    ],
)
def test_a_storage_that_cannot_be_used_is_a_sentence_without_a_password(url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        opened(url.replace("PORT", str(free_port())))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("psycopg"):
            raise ModuleNotFoundError("No module named 'psycopg'")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs a driver .*psycopg.*pip install 'psycopg\[binary\]>=3.2'"):
        opened("postgresql://me:secret@127.0.0.1/db")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"space": {"x": "interval(0, 2)"}}, r"other space: x is interval\(0, 2\) now and was interval\(0, 1\)"),
        ({"space": {"y": "interval(0, 1)"}}, "other space: y is interval.* now and was not there"),
        ({"objectives": {"val/loss": "min"}}, "other objectives: val/loss is min now and was not there"),
        ({"objectives": {"val/miou": "min"}}, "other objectives: val/miou is min now and was max"),
        (
            {"objectives": {"val/miou": "max", "val/loss": "min"}},
            "other objectives: val/loss is min now and was not there",
        ),
        ({"overrides": ["epochs=2"]}, "other overrides: epochs is 2 now and was 1"),
        ({"overrides": []}, "other overrides: epochs is not there now and was 1"),
        ({"seeds": [0, 1]}, "other seeds: seeds is 2 now and was 1"),
        ({"seeds": [4]}, "other seeds: seed is 4 now and was 0"),
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    file_search(tmp_path)
    space = options.pop("space", {"x": "interval(0, 1)"})
    with pytest.raises(UserError, match=f"study: s on sqlite:.* was begun with {sentence}.*; give study=ANOTHER"):
        file_search(tmp_path, space, **options)


def test_machines_of_one_search_may_differ_in_what_is_theirs(tmp_path: Path) -> None:
    file_search(tmp_path, overrides=["epochs=1", "paths.output=/here"])
    for own in ("paths.output=/there", "++paths.cache=/fast", "loader.num_workers=8", "trainer.devices=2"):
        file_search(tmp_path, overrides=["epochs=1", own])


def test_whoever_opens_a_study_knows_it_by_the_id_that_its_maker_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = file_search(tmp_path)
    assert len(first.id) == 16
    assert file_search(tmp_path).id == first.id
    (tmp_path / "study.db").unlink()
    assert file_search(tmp_path).id != first.id
    (tmp_path / "study.db").unlink()
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    timer = threading.Timer(0.3, study.set_user_attr, ("id", "late"))
    timer.start()
    assert file_search(tmp_path).id == "late"
    timer.join()
    monkeypatch.setattr("segtrain.sweep.storage.MAKING", 0.1)
    optuna.delete_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    assert file_search(tmp_path).id == file_search(tmp_path).id == ""  # its maker died


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=url)
    with pytest.raises(UserError, match=r"study: s on sqlite:.* segtrain: it is to minimize, and this search to max"):
        file_search(tmp_path)
    assert study.user_attrs == {}
    optuna.delete_study(study_name="s", storage=url)
    theirs = optuna.create_study(study_name="s", storage=url, direction="maximize")
    theirs.tell(theirs.ask(), 0.5)
    with pytest.raises(UserError, match=r"segtrain: it has 1 trials and no space; give study=ANOTHER"):
        file_search(tmp_path)
    assert len(theirs.trials) == 1


def test_a_search_goes_on_on_a_file_that_was_locked_for_a_while(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("segtrain.sweep.database.LOCKED", 0.1)
    search = file_search(tmp_path)
    other = sqlite3.connect(tmp_path / "study.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.5, other.rollback)
    timer.start()
    asked = search.ask()
    timer.join()
    other.close()
    assert asked is not None
    assert len(search.trials()) == 1
    assert "does not answer (" in caplog.text
    assert "locked" in caplog.text
