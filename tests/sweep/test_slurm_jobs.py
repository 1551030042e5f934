"""What becomes of a search's jobs that end on SLURM, and which of their settings are refused?"""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Compose
from fake_slurm import Cluster, cluster
from optuna.trial import TrialState

from segtrain.clusters.submit import Resources
from segtrain.config.check import check_keys
from segtrain.config.schema import SweepConfig
from segtrain.errors import UserError
from segtrain.signals import EARLY
from segtrain.sweep import slurm, worker_job
from segtrain.sweep.ending import how_it_ended
from segtrain.sweep.launcher import check_launcher, gpus_per_worker, warn_of_sqlite
from segtrain.sweep.patience import Patience
from segtrain.sweep.slurm import SlurmWorkers
from segtrain.sweep.study import Search
from segtrain.sweep.worker_job import JobWorker, give_up
from segtrain.sweep.written_space import parse_space

__all__ = ["cluster"]

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def sweep_config(compose_config: Compose) -> Config:
    return lambda *overrides: check_keys(compose_config("study=a", *overrides, name="sweep"), SweepConfig)


@pytest.mark.parametrize(
    ("overrides", "gpus"),
    [
        ((), 1),
        (("gpus_per_trial=4",), 4),
        (("trainer=cpu",), 0),
        (("slurm.gpus_per_node=3",), 3),
        (("trainer=cpu", "slurm.gpus_per_node=2"), 2),
    ],
)
def test_a_worker_has_the_gpus_of_a_trial_if_none_are_said(
    sweep_config: Config, overrides: Sequence[str], gpus: int
) -> None:
    assert gpus_per_worker(sweep_config("launcher=slurm", *overrides)) == gpus


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("slurm.partition=gpu",), r"^slurm.partition: it is of launcher=slurm"),
        (("launcher=slurm", "slurm.workers=0"), r"^slurm.workers: 0 is not a positive number"),
        (("launcher=slurm", "slurm.gpus_per_node=-1"), r"^slurm.gpus_per_node: -1 is no number"),
        (
            ("launcher=slurm", "slurm.gpus_per_node=1", "gpus_per_trial=2"),
            r"^slurm.gpus_per_node: 1 for each worker.*gpus_per_trial=2",
        ),
        (("launcher=slurm", "slurm.gpus_per_node=2", "gpus=[0,2]"), r"^gpus: a worker has slurm.gpus_per_node=2.*no 2"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    sweep_config: Config, overrides: Sequence[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_launcher(sweep_config(*overrides), overrides)


def test_a_worker_in_its_job_takes_the_arguments_of_the_command(
    sweep_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("launcher=slurm", "slurm.partition=gpu", "launcher=local")
    monkeypatch.setenv(worker_job.VARIABLE, "12")
    cfg = sweep_config(*overrides)
    check_launcher(cfg, overrides)
    assert cfg["launcher"] == "local"


def test_an_unknown_key_and_launcher_are_refused(compose_config: Compose) -> None:
    for override in ("+slurm.partitoin=gpu", "launcher=slrum"):
        with pytest.raises(UserError, match=r"slurm.partitoin: no such key. Did you mean|launcher: .*slrum"):
            check_keys(compose_config("study=a", override, name="sweep"), SweepConfig)


@pytest.mark.parametrize(
    ("storage", "folder", "warns"),
    [
        (None, "/data/a", True),
        ("sqlite:////data/study.db", "/data/a", True),
        ("postgresql://a@b/c", "/data/a", False),
        (None, "/data/local/a", False),
        (None, "/database", False),
    ],
)
def test_a_study_in_a_file_that_machines_share_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, storage: str | None, folder: str, warns: bool
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n/dev/b /data/local xfs rw 0 0\n")
    warn_of_sqlite(storage, Path(folder), mounts=mounts)
    assert ("SQLite file on nfs4" in caplog.text) == warns


class Workers(SlurmWorkers):
    """A search's jobs, where something happens between two looks at them."""

    def __init__(self, folder: Path, *, then: Sequence[Callable[[], object]] = (), arguments: Any = ("a=1",)) -> None:
        folder.mkdir(exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
        study = optuna.create_study(study_name="a", storage=storage, load_if_exists=True, direction="maximize")
        search = Search(study, parse_space({"x": "interval(0, 1)"}), n_trials=2, retries=1)
        shared: Mapping[str, Any] = {"overrides": [], "seeds": [0], "objectives": {"val/miou": "max"}, "retries": 1}
        super().__init__(search, folder, arguments=arguments, count=2, resources=Resources("slurm"), **shared)
        self.then = list(then)

    def _wait(self, seconds: float) -> None:
        assert self.then, "the jobs are waited for without end"
        self.then.pop(0)()

    def ask(self, job: str) -> Any:
        """Begin a trial as a job would."""
        self.search.job = job
        asked = self.search.ask()
        assert asked is not None
        folder = self.folder / "trials" / asked.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trial.json").write_text(json.dumps({"number": asked.trial.number, "state": "running"}))
        return asked

    def complete(self) -> None:
        while (asked := self.search.ask()) is not None:
            self.search.complete(asked, [0.5], {})


def test_jobs_that_are_killed_are_replaced_and_their_trials_asked_again_at_once(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        workers.ask("7.0")
        workers.ask("8.0")
        cluster.set(7, "FAILED", code="0:9")

    def end() -> None:
        again = [t for t in workers.search.study.trials if t.state == TrialState.WAITING]
        assert [(t.user_attrs["again"], t.user_attrs["tries"], t.user_attrs["folder"]) for t in again] == [
            (0, 1, "0000")
        ]
        assert json.loads((workers.folder / "trials" / "0000" / "trial.json").read_text())["state"] == "lost"
        assert json.loads((workers.folder / "trials" / "0001" / "trial.json").read_text())["state"] == "running"
        for job in (8, 9):
            cluster.set(job, "COMPLETED")

    workers = Workers(tmp_path / "search", then=[lose, end])
    with caplog.at_level("INFO", "segtrain"):
        workers.run()
    assert cluster.submitted() == ["job-7.sh", "job-8.sh", "job-9.sh"]
    assert "worker job 7 ended (SLURM's state FAILED, killed by signal 9); job 9 comes in its place" in caplog.text


def test_a_place_is_filled_again_as_often_as_retries_say(cluster: Cluster, tmp_path: Path) -> None:
    def lose_all() -> None:
        for job in range(7, 7 + len(cluster.submitted())):
            cluster.set(job, "NODE_FAIL")

    workers = Workers(tmp_path / "search", then=[lose_all] * 9)
    end = workers.run()
    assert end.status == 1
    assert end.sentence.startswith("no worker is left: worker job 9 ended (SLURM's state NODE_FAIL")
    assert len(cluster.submitted()) == 4


def test_a_job_that_ends_by_a_mistake_is_not_replaced_and_says_it(cluster: Cluster, tmp_path: Path) -> None:
    def fail() -> None:
        (workers.home / "7_0_log.out").write_text("more\nsegtrain: loss: no such thing\nsrun: error: exit code 1\n")
        cluster.set(7, "FAILED", code="1:0")
        cluster.set(8, "CANCELLED", code="0:15")

    workers = Workers(tmp_path / "search", then=[fail])
    end = workers.run()
    assert end.status == 1
    assert "left: worker job 7 failed: loss: no such thing; worker job 8 ended (SLURM's state CANCELLED" in end.sentence
    assert len(cluster.submitted()) == 2


def test_a_search_whose_trials_are_done_waits_for_its_jobs_and_ends_those_that_have_not_begun(
    cluster: Cluster, tmp_path: Path
) -> None:
    def finish() -> None:
        workers.complete()
        cluster.set(7, "RUNNING")
        cluster.set(8, "PENDING")

    workers = Workers(tmp_path / "search", then=[finish, lambda: None, lambda: cluster.set(7, "COMPLETED")])
    workers.run()
    assert cluster.calls() == ["scancel 8"]
    again = Workers(tmp_path / "search")
    again.run()
    assert len(cluster.submitted()) == 2, "a search that is done submits nothing"


def test_trials_of_a_job_that_slurm_runs_again_are_asked_again_and_not_those_that_it_runs_now(
    cluster: Cluster, tmp_path: Path
) -> None:
    def requeue() -> None:
        workers.ask("7.0")
        workers.ask("7.1")
        cluster.set(7, "RUNNING", restarts=1)

    def end() -> None:
        lost = [trial.number for trial in workers.search.study.trials if trial.state == TrialState.FAIL]
        assert lost == [0]
        for job in (7, 8):
            cluster.set(job, "COMPLETED")

    workers = Workers(tmp_path / "search", then=[requeue, end])
    workers.run()


def test_the_jobs_that_a_quota_allows_are_watched(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def end() -> None:
        workers.complete()
        cluster.set(7, "COMPLETED")

    (cluster.folder / "full").touch()
    workers = Workers(tmp_path / "search", then=[end])
    assert workers.run().status == 0
    assert cluster.submitted() == ["job-7.sh"]
    assert "QOSMaxSubmitJobPerUserLimit" in caplog.text
    assert "the search goes on with 1 of 2 workers" in caplog.text
    cluster.set(7, "PENDING")  # another's, and no room for one
    with pytest.raises(UserError, match="QOSMaxSubmitJobPerUserLimit"):
        Workers(tmp_path / "other").run()


def test_one_job_of_which_the_controller_says_nothing_is_warned_of_once(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> None:
        (cluster.folder / "silent-8").unlink()
        workers.complete()
        for job in (7, 8):
            cluster.set(job, "COMPLETED")

    silence = (cluster.folder / "silent-8").touch
    workers = Workers(tmp_path / "search", then=[silence, lambda: None, lambda: None, answer])
    workers.run()
    assert caplog.text.count("Unable to contact slurm controller") == 1


def test_a_job_that_fails_after_it_was_preempted_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    def fail() -> None:
        stopped = how_it_ended("SIGUSR2", "").sentence
        (workers.home / "7_0_log.out").write_text(f"segtrain: {stopped}\nTraceback ...\nMemoryError\n")
        cluster.set(7, "FAILED", code="1:0")

    def end() -> None:
        assert cluster.submitted() == ["job-7.sh", "job-8.sh", "job-9.sh"]
        workers.complete()
        for job in (8, 9):
            cluster.set(job, "COMPLETED")

    workers = Workers(tmp_path / "search", then=[fail, end])
    assert workers.run().status == 0


@pytest.mark.parametrize("script", ["#!/bin/bash\nexec /bin/sleep 9\n", "#!/no/such/shell\n"])
def test_a_command_of_slurm_that_hangs_or_is_missing_ends_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str
) -> None:
    monkeypatch.setattr(slurm, "PATIENCE", 0.05)
    monkeypatch.setenv("PATH", str(cluster.folder / "bin"))
    (cluster.folder / "bin" / "scancel").write_text(script)
    slurm._scancel("7")
    assert "SLURM does not answer: " in caplog.text


def test_a_controller_that_does_not_answer_is_asked_again(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> None:
        (cluster.folder / "silent").unlink()
        workers.complete()
        for job in (7, 8):
            cluster.set(job, "COMPLETED")

    silence = (cluster.folder / "silent").touch
    workers = Workers(tmp_path / "search", then=[silence, lambda: None, answer])
    workers.run()
    assert caplog.text.count("Unable to contact slurm controller") == 1
    assert len(cluster.submitted()) == 2


def test_a_command_that_was_killed_is_gone_on_with_by_the_same_with_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    def killed() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        Workers(tmp_path / "search", then=[killed]).run()
    cluster.set(7, "FAILED", code="0:9")
    other = Workers(tmp_path / "search", arguments=("a=2",))
    with pytest.raises(UserError, match=r"job 8 of this search still runs, by another command: a=1; .*scancel 8"):
        other.run()

    def end() -> None:
        workers.complete()
        for job in (8, 9):
            cluster.set(job, "COMPLETED")

    workers = Workers(tmp_path / "search", then=[end], arguments=("slurm.workers=2", "a=1"))
    workers.run()
    assert len(cluster.submitted()) == 3


def test_a_password_lies_in_no_file_that_others_read_and_is_not_said(cluster: Cluster, tmp_path: Path) -> None:
    def killed() -> None:
        raise MemoryError

    words = ("storage=postgresql://u:secret@h/d", "storage='postgresql://h/d?user=u&password=secret&x=1'", "a=1")
    search = Workers(tmp_path / "search", then=[killed], arguments=words)
    with pytest.raises(MemoryError):
        search.run()
    assert "secret" not in (search.home / "jobs.json").read_text()
    assert search.home.stat().st_mode & 0o777 == 0o700, "submitit's files have it"
    other = Workers(tmp_path / "search", arguments=("a=2",))
    with pytest.raises(UserError, match=r"a=1 .*password=\*\*\*&x=1' .*://u:\*\*\*@h/d; give the same") as error:
        other.run()
    assert "secret" not in str(error.value)


def test_ctrl_c_has_running_jobs_save_without_being_run_again_and_ends_waiting_ones(
    cluster: Cluster, tmp_path: Path
) -> None:
    def interrupt() -> None:
        cluster.set(8, "PENDING")
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    workers = Workers(tmp_path / "search", then=[interrupt])
    end = workers.run()
    assert cluster.calls() == [
        *("scontrol update JobId=7 Requeue=0", "scancel --signal=TERM 7"),
        *("scontrol update JobId=8 Requeue=0", "scancel 8"),
    ]
    assert end.status == 130
    assert signal.getsignal(signal.SIGINT) == before
    assert json.loads((workers.home / "jobs.json").read_text())["jobs"] == []


def test_ctrl_c_once_more_does_not_wait(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def scancel(*arguments: str) -> None:
        asked.append(" ".join(arguments))
        if len(asked) == 1:
            interrupt()

    asked: list[str] = []
    monkeypatch.setattr(slurm, "_scancel", scancel)
    Workers(tmp_path / "search", then=[interrupt]).run()
    assert asked[0] == "--signal=TERM 7"
    assert asked[-1] == "7 8"


@pytest.mark.parametrize("early", [True, False])
def test_a_worker_that_is_signalled_has_its_job_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(worker_job, "requeue_job", lambda: asked.append("requeue"))
    monkeypatch.setenv(worker_job.VARIABLE, "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    others = Workers(tmp_path / "search")
    lost = others.ask("7.0")
    worker = JobWorker(
        others.search, others.folder, overrides=[], slots=[], seeds=[0], objectives={"val/miou": "max"}, retries=1
    )
    if early:
        monkeypatch.setattr(worker_job, "EARLY", [signal.SIGUSR2])
    else:
        worker.show = lambda worker: os.kill(os.getpid(), signal.SIGUSR2)
    assert worker.run().status == 75
    assert asked == ["requeue"]
    assert others.search.study.trials[lost.trial.number].state == TrialState.FAIL
    assert others.search.job == "7.1"
    assert EARLY == []


def test_a_worker_that_is_signalled_while_the_storage_is_silent_has_its_job_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(worker_job, "requeue_job", lambda: asked.append("requeue"))
    monkeypatch.setenv(worker_job.VARIABLE, "7")
    others = Workers(tmp_path / "search")
    options: Mapping[str, Any] = {"objectives": {"val/miou": "max"}, "retries": 1}
    worker = JobWorker(others.search, others.folder, overrides=[], slots=[], seeds=[0], **options)

    def show(worker: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        raise UserError("storage: it has not answered for 10 s")

    worker.show = show
    with pytest.raises(UserError, match="has not answered"):
        worker.run()
    assert asked == ["requeue"]


def test_a_signal_that_comes_as_the_worker_takes_signals_over_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    early: list[int] = []
    real = signal.signal

    def at_the_last_moment(number: int, handler: Any) -> Any:
        if number == signal.SIGUSR2 and not early:
            early.append(number)
        return real(number, handler)

    monkeypatch.setattr(worker_job, "requeue_job", lambda: asked.append("requeue"))
    monkeypatch.setattr(worker_job, "EARLY", early)
    monkeypatch.setattr(signal, "signal", at_the_last_moment)
    monkeypatch.setenv(worker_job.VARIABLE, "7")
    others = Workers(tmp_path / "search")
    options: Mapping[str, Any] = {"objectives": {"val/miou": "max"}, "retries": 1}
    worker = JobWorker(others.search, others.folder, overrides=[], slots=[], seeds=[0], **options)
    worker.show = lambda worker: pytest.fail("the signal is lost, and the worker looks after its trials")
    assert worker.run().status == 75
    assert asked == ["requeue"]


def test_a_database_that_hiccups_when_a_job_has_ended_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(tmp_path / "search")
    workers.search.patience = Patience("the study", sleep=lambda seconds: None)
    asked = [workers.ask("7.0"), workers.ask("7.0")]
    tell, failures = workers.search.study.tell, [optuna.exceptions.StorageInternalError("gone")]

    def told(number: Any, *values: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        if number == asked[0].trial.number:  # its worker tells its end at the same moment
            raise optuna.exceptions.UpdateFinishedTrialError
        return tell(number, *values, **options)

    monkeypatch.setattr(workers.search.study, "tell", told)
    workers.search.give_up("7")
    states = [trial.state for trial in workers.search.study.trials]
    assert states == [TrialState.RUNNING, TrialState.FAIL]


def test_a_trial_that_ended_in_time_is_not_asked_again(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "search")
    asked = workers.ask("7.0")
    workers.search.complete(asked, [0.5], {})
    give_up(workers, "7")
    assert [trial.state for trial in workers.search.study.trials] == [TrialState.COMPLETE]
