"""Do workers that come to a database at the same moment keep apart, and is a bad address a sentence?"""

import contextlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState

from segtrain.errors import UserError
from segtrain.sweep.database import open_database, reaching
from segtrain.sweep.samplers import SamplerSettings
from segtrain.sweep.storage import open_search
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space

WORKERS = 4


def at_once(function: Callable[[int], Any], count: int = WORKERS) -> list[Any]:
    """Call function(number) in threads that begin together; return what each returned."""
    together = threading.Barrier(count)

    def call(number: int) -> Any:
        together.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def opened(url: str) -> RDBStorage:
    return open_database(url, heartbeat_interval=20, grace_period=120)


def search(url: str, *, seed: int = 0) -> Search:
    return open_search(
        url,
        "study",
        space=parse_space({"a": "interval(0, 1)"}),
        objectives={"val/miou": "max"},
        overrides=["trainer.max_epochs=3"],
        settings=SamplerSettings(sampler="random", pruner="none", startup_trials=5, warmup=0, seed=seed),
        n_trials=10,
        retries=2,
    )


def test_workers_that_begin_a_search_together_share_one_study_and_draw_different_values(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    searches = at_once(lambda number: search(url))
    asked = at_once(lambda number: searches[number].ask())
    assert sorted(each.trial.number for each in asked) == list(range(WORKERS))
    assert len({each.values["a"] for each in asked}) == WORKERS
    assert len(optuna.study.get_all_study_names(opened(url))) == 1


def test_a_worker_between_whose_writes_another_comes_is_not_of_another_search(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="study", storage=opened(url), direction="maximize").set_user_attr(
        "space", parse_space({"a": "interval(0, 1)"}).texts()
    )
    facts = search(url).study.user_attrs
    assert facts["objectives"] == {"val/miou": "max"}
    assert facts["overrides"] == {"trainer.max_epochs": "3"}


def test_a_waiting_trial_is_taken_by_one_worker_even_if_two_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages = [opened(f"sqlite:///{tmp_path}/study.db") for _ in range(2)]
    study = optuna.create_study(storage=storages[0])
    study.enqueue_trial({"a": 1})
    (trial,) = study.trials
    both_have_read = threading.Barrier(2)
    find = TrialModel.find_or_raise_by_id.__func__  # type: ignore[attr-defined]

    def find_and_wait(cls: type[TrialModel], *arguments: Any, **options: Any) -> TrialModel:
        found = find(cls, *arguments, **options)
        with contextlib.suppress(threading.BrokenBarrierError):  # the other cannot read before this one has written
            both_have_read.wait(0.5)
        return found

    monkeypatch.setattr(TrialModel, "find_or_raise_by_id", classmethod(find_and_wait))
    taken = at_once(lambda n: storages[n].set_trial_state_values(trial._trial_id, TrialState.RUNNING), 2)
    assert sorted(taken) == [False, True]


def test_a_folder_with_braces_can_have_a_database(tmp_path: Path) -> None:
    (tmp_path / "{x}").mkdir()
    opened(f"sqlite:///{tmp_path}/{{x}}/study.db")
    assert (tmp_path / "{x}" / "study.db").is_file()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("study.db", r"storage: 'study\.db' is no address of a database, such as sqlite:///study\.db"),
        ("nosuch://u:secret@h/d", r"storage: 'nosuch://u:\*\*\*@h/d' is no address"),
        ("postgresql://u:secret@h:port/d", r"'postgresql://\*\*\*@h:port/d' is no address.* write @ as %40"),
        ("nosuch://h/d?user=u&password=secret", r"storage: 'nosuch://h/d\?user=u&password=\*\*\*' is no address"),
        ("nosuch://u@corp:secret@secret@h/d?x=1", r"storage: 'nosuch://u@corp:\*\*\*@h/d\?x=1' is no address"),
        ("postgres:/u:secret@h/d", r"'postgres:/\*\*\*@h/d' is no address"),
        (
            "postgresql://u:secret@127.0.0.1:1/d",
            r"postgresql://u:\*\*\*@127\.0\.0\.1:1/d cannot be reached \(.*refused",
        ),
        ("postgres://u:secret@127.0.0.1:1/d", r"postgres://u:\*\*\*@127\.0\.0\.1:1/d cannot be reached \(.*refused"),
        ("sqlite:////no/such/folder/study.db", r"cannot be reached \(unable to open database file\)"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised, reaching(url):
        opened(url)
    assert "secret" not in str(raised.value)


def test_a_missing_driver_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql://u:secret@127.0.0.1:1/d"
    sentence = r"\*\*\*@127\.0\.0\.1:1/d needs a driver \(.*psycopg.*\); for PostgreSQL pip install 'psycopg\[binary\]"
    with pytest.raises(UserError, match=sentence), reaching(url):
        opened(url)
