"""Does a worker bring every trial to its end, whatever becomes of the trainings?"""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep.helpers import X, fake_trainings, file_search, make_worker, memory_search, records, states

from segtrain.sweep.lost import GRACE, HEARTBEAT
from segtrain.sweep.worker import Worker

pytestmark = pytest.mark.usefixtures("fake_trainings")

__all__ = ["fake_trainings"]


def kinds(search: Any) -> list[str]:
    return [trial.state.name for trial in search.trials()]


def test_trials_are_run_in_their_slots_until_there_are_as_many_as_asked_for(tmp_path: Path) -> None:
    search, seen = memory_search(n_trials=5), set()

    def show(worker: Worker) -> None:
        seen.add(tuple(sorted(running.slot.number for running in worker.running)))

    end = make_worker(search, tmp_path, "pause=0.2", slots=2, show=show).run()
    assert (end.status, end.sentence) == (0, "")
    assert states(tmp_path) == ["complete"] * 5
    assert kinds(search) == ["COMPLETE"] * 5
    assert (0, 1) in seen
    for trial, record in zip(search.trials(), records(tmp_path).values(), strict=True):
        assert record["values"] == {"val/miou": trial.value} == {"val/miou": trial.params["x"]}
        assert (record["number"], record["parameters"]) == (trial.number, trial.params)
        assert record["seconds"] > 0
    assert make_worker(search, tmp_path).run().status == 0  # nothing left
    assert len(search.trials()) == 5
    search.n_trials = 6
    make_worker(search, tmp_path).run()
    assert kinds(search) == ["COMPLETE"] * 6


def test_a_training_that_is_killed_is_resumed_in_its_folder(tmp_path: Path) -> None:
    search = memory_search(n_trials=1)
    make_worker(search, tmp_path, "kill=1", "epochs=3").run()
    (trial,) = search.trials()
    assert trial.user_attrs["tries"] == 1
    assert trial.intermediate_values == dict.fromkeys(range(3), trial.params["x"])
    assert [record["state"] for record in records(tmp_path).values()] == ["complete"]
    printed = (tmp_path / "trials" / "0000" / "console.log").read_text().splitlines()
    assert printed == [f"epoch {epoch} of 0" for epoch in range(3)]


def test_a_training_that_is_killed_too_often_fails_with_its_reason_and_the_end_of_its_log(tmp_path: Path) -> None:
    search = memory_search(n_trials=1, retries=1)
    assert make_worker(search, tmp_path, "kill=0", "always=1", "epochs=1").run().status == 0
    # the second try finds a checkpoint behind its last epoch and ends
    assert kinds(search) == ["COMPLETE"]
    search = memory_search(n_trials=1, retries=0)
    make_worker(search, tmp_path / "once", "kill=0", "epochs=2").run()
    (trial,) = search.trials()
    assert trial.state.name == "FAIL"
    assert trial.user_attrs["reason"] == "was killed by signal 9 (SIGKILL), as the system does when memory runs out"
    assert trial.user_attrs["tail"] == "epoch 0 of 0"
    assert records(tmp_path / "once")["0000"]["reason"] == trial.user_attrs["reason"]


def test_three_trials_in_a_row_that_fail_alike_stop_the_search_and_others_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = memory_search(n_trials=20)
    end = make_worker(search, tmp_path, "sentence=out of memory with RUN 0x12ab after 17 steps").run()
    assert end.status == 1
    assert end.sentence.startswith("3 trials in a row ended with the same error: out of memory with ")
    assert "the same command goes on" in end.sentence
    assert kinds(search) == ["FAIL"] * 3
    assert [trial.user_attrs.get("tries", 0) for trial in search.trials()] == [0] * 3  # not retried
    end = make_worker(search, tmp_path).run()
    assert end.status == 0
    assert kinds(search) == ["FAIL"] * 3 + ["COMPLETE"] * 17


class PruneLow(optuna.pruners.BasePruner):
    """Ends trials whose score is below a half."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.intermediate_values[0] < 0.5


def test_a_trial_that_is_hopeless_in_its_last_epoch_has_trained_and_is_complete(tmp_path: Path) -> None:
    class PruneLate(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2

    search = memory_search(n_trials=2, pruner=PruneLate())
    make_worker(search, tmp_path, "epochs=3", "pause=0.3").run()
    assert kinds(search) == ["COMPLETE", "COMPLETE"]
    assert [list(trial.intermediate_values) for trial in search.trials()] == [[0, 1, 2]] * 2


def test_a_trial_whose_first_seed_is_hopeless_at_its_end_does_not_train_the_others(tmp_path: Path) -> None:
    class PruneLate(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2

    search = memory_search(n_trials=1, pruner=PruneLate())
    make_worker(search, tmp_path, "epochs=3", "pause=0.3", seeds=range(2)).run()
    assert kinds(search) == ["PRUNED"]
    assert not (tmp_path / "trials" / "0000" / "seed-1").exists()


def test_failures_with_pruned_trials_between_them_are_not_in_a_row(tmp_path: Path) -> None:
    search = memory_search({**X, "sentence": "choice(oom,0)"}, n_trials=6, pruner=PruneLow())
    for number, sentence in enumerate(("oom", "0", "0", "oom", "0", "oom")):
        search.study.enqueue_trial({"x": 0.01 * number, "sentence": sentence})
    end = make_worker(search, tmp_path, "epochs=9", "pause=0.05").run()
    assert kinds(search) == ["FAIL", "PRUNED", "PRUNED", "FAIL", "PRUNED", "FAIL"]
    assert end.status == 0


def test_while_the_search_is_stopped_by_errors_the_other_trials_save(tmp_path: Path) -> None:
    search = memory_search({"sentence": "choice(a1,a2,a3,0)", "pause": "choice(0.3,0.31)"}, n_trials=8)
    for values in [{"sentence": "0", "pause": "0.3"}, *({"sentence": f"a{n}", "pause": "0.3"} for n in (1, 2, 3))]:
        search.study.enqueue_trial(values)
    end = make_worker(search, tmp_path, "epochs=100", slots=2).run()
    assert end.status == 1
    assert sorted(states(tmp_path)) == ["failed", "failed", "failed", "stopped"]
    assert sorted(kinds(search)) == ["FAIL"] * 3 + ["WAITING"]
    assert not list(tmp_path.glob("workers/*"))


def press(folder: Path, pattern: str, count: int, *signals: int) -> Any:
    """Return what sends signals to this process, one a look, once there are as many such files."""
    left = list(signals)

    def show(worker: Worker) -> None:
        if left and len(list(folder.glob(pattern))) >= count:
            os.kill(os.getpid(), left.pop(0))

    return show


LAST = "trials/*/checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGUSR1, 75, "SIGUSR1")]
)
def test_a_signal_lets_the_trials_save_and_the_same_command_goes_on(
    tmp_path: Path, number: int, status: int, name: str
) -> None:
    before = signal.getsignal(number)
    search = file_search(tmp_path, n_trials=3)
    show = press(tmp_path, LAST, 2, number)
    end = make_worker(search, tmp_path, "epochs=8", "pause=0.5", slots=2, show=show).run()
    assert (end.status, end.sentence) == (status, f"stopped by {name}; the same command goes on with the search")
    assert states(tmp_path) == ["stopped", "stopped"]
    assert signal.getsignal(number) == before
    again = file_search(tmp_path, n_trials=3)
    make_worker(again, tmp_path, "epochs=8", "pause=0").run()
    assert states(tmp_path) == ["complete"] * 3
    assert kinds(again) == ["COMPLETE"] * 3
    for folder in ("0000", "0001"):
        printed = (tmp_path / "trials" / folder / "console.log").read_text().splitlines()
        assert printed == [f"epoch {epoch} of 0" for epoch in range(8)]  # each once


def test_a_second_ctrl_c_kills_the_trials_and_loses_none(tmp_path: Path) -> None:
    search = file_search(tmp_path, n_trials=2)
    show = press(tmp_path, LAST, 2, signal.SIGINT, signal.SIGINT)
    end = make_worker(search, tmp_path, "epochs=2", "pause=60", slots=2, show=show).run()
    assert end.status == 130
    assert sorted(kinds(search)) == ["WAITING"] * 2
    again = file_search(tmp_path, n_trials=2)
    make_worker(again, tmp_path, "epochs=2").run()
    assert states(tmp_path) == ["complete"] * 2
    assert [trial.user_attrs["tries"] for trial in again.trials()] == [0, 0]  # it was the user's wish


def test_a_trial_whose_end_the_study_was_not_told_is_taken_over_at_once(tmp_path: Path) -> None:
    def show(worker: Worker) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_worker(file_search(tmp_path, n_trials=1), tmp_path, "pause=60", show=show).run()
    assert len(list(tmp_path.glob("workers/*"))) == 1
    again = file_search(tmp_path, n_trials=1)
    make_worker(again, tmp_path).run()
    assert kinds(again) == ["COMPLETE"]
    assert not (tmp_path / "workers").exists()


def test_trials_save_before_an_error_of_ours_is_shown(tmp_path: Path) -> None:
    seen: list[Any] = []

    def show(worker: Worker) -> None:
        if list(tmp_path.glob(LAST)):
            seen.append(worker.running[0].training)
            raise RuntimeError("of the display")

    search = file_search(tmp_path, n_trials=1)
    with pytest.raises(RuntimeError, match="of the display"):
        make_worker(search, tmp_path, "epochs=8", "pause=0.3", show=show).run()
    (record,) = records(tmp_path).values()
    assert (record["state"], record["reason"]) == ("stopped", "the search's worker failed")
    assert seen[0].process.returncode == 75


def test_completed_seeds_are_not_trained_again_and_the_score_is_their_mean(tmp_path: Path) -> None:
    search = file_search(tmp_path, n_trials=1)
    show = press(tmp_path, "trials/0000/*/metrics.json", 2, signal.SIGTERM)
    end = make_worker(search, tmp_path, "epochs=1", "pause=0.5", seeds=range(5), show=show).run()
    assert end.status == 75
    done = sorted(path.parent.name for path in tmp_path.glob("trials/0000/*/metrics.json"))
    assert done == ["seed-0", "seed-1"]
    again = file_search(tmp_path, n_trials=1)
    make_worker(again, tmp_path, "epochs=1", seeds=range(5)).run()
    (trial,) = again.trials()
    assert trial.value == pytest.approx(trial.params["x"] + 2)
    assert trial.intermediate_values == {0: trial.params["x"]}
    for seed in range(5):
        printed = (tmp_path / "trials" / "0000" / f"seed-{seed}" / "console.log").read_text()
        assert printed.count(f"epoch 0 of {seed}") == 1


def test_a_seed_that_fails_is_named(tmp_path: Path) -> None:
    search = memory_search(n_trials=1)
    folder = tmp_path / "trials" / "0000" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"val/miou": 0.5}')
    make_worker(search, tmp_path, "sentence=nonfinite: the loss", seeds=range(2)).run()
    assert records(tmp_path)["0000"]["reason"] == "seed 1: nonfinite: the loss"
    search = memory_search(n_trials=1)
    make_worker(search, tmp_path / "b", "nan=1", seeds=range(2), retries=0).run()
    assert records(tmp_path / "b")["0000"]["state"] == "failed"


def test_an_objective_that_no_run_has_fails_the_trial(tmp_path: Path) -> None:
    search = memory_search(n_trials=4)
    end = make_worker(search, tmp_path, objectives={"val/loss": "min"}).run()
    assert end.sentence.startswith(
        "3 trials in a row ended with the same error: metrics.json has no number for val/loss"
    )


@pytest.mark.parametrize("seeds", [range(1), range(2)])
def test_a_training_that_is_killed_while_it_writes_its_scores_is_no_failure(tmp_path: Path, seeds: range) -> None:
    search = memory_search(n_trials=1)
    make_worker(search, tmp_path, "torn=1", seeds=seeds).run()
    (trial,) = search.trials()
    assert (trial.state.name, trial.user_attrs["tries"]) == ("COMPLETE", len(seeds))
    assert trial.value == pytest.approx(trial.params["x"] + sum(seeds) / len(seeds))


def test_a_hopeless_trial_ends_early(tmp_path: Path) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0)
    search = memory_search(n_trials=3, pruner=pruner)
    for x in (0.8, 0.9, 0.1):
        search.study.enqueue_trial({"x": x})
    make_worker(search, tmp_path, "epochs=4", "pause=0.1").run()
    assert states(tmp_path) == ["complete", "complete", "pruned"]
    assert kinds(search) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert max(search.trials()[2].intermediate_values) < 3
    assert records(tmp_path)["0002"]["reason"] == "pruned"


def test_a_worker_that_dies_as_it_tells_that_a_trial_is_hopeless_leaves_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = memory_search(n_trials=1, pruner=PruneLow())
    search.study.enqueue_trial({"x": 0.1})
    real = search.study.tell

    def tell(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(search.study, "tell", real)
        raise MemoryError  # before it

    monkeypatch.setattr(search.study, "tell", tell)
    with pytest.raises(MemoryError):
        make_worker(search, tmp_path, "epochs=9", "pause=0.1").run()
    assert kinds(search) == ["RUNNING"]
    search.held.clear()
    make_worker(search, tmp_path, "epochs=9", "pause=0.1").run()
    assert kinds(search) in (["PRUNED"], ["COMPLETE"])
    assert search.trials()[0].user_attrs["tries"] == 1


def test_a_worker_waits_for_the_folder_of_a_training_that_still_saves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    folder = tmp_path / "trials" / "0000"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    file = (folder / "config.yaml").open("a")
    fcntl.flock(file, fcntl.LOCK_EX)
    release = threading.Timer(0.6, file.close)
    release.start()
    search = memory_search(n_trials=1)
    make_worker(search, tmp_path).run()
    assert states(tmp_path) == ["complete"]
    assert "another process still trains in" in caplog.text


def test_a_trial_that_another_worker_has_taken_over_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtrain.sweep.watch.HEARTBEAT", 0.05)
    search = file_search(tmp_path, n_trials=1)
    other = file_search(tmp_path, n_trials=1)
    taken = []

    def show(worker: Worker) -> None:
        if not taken and (tmp_path / "trials" / "0000" / "checkpoints" / "last.ckpt").exists():
            taken.append(other.study.tell(0, state=optuna.trial.TrialState.FAIL))  # this one was silent for too long
            other.take_over()

    make_worker(search, tmp_path, "epochs=3", "pause=0.2", show=show).run()
    (trial,) = search.trials()
    assert (trial.number, trial.state.name, trial.user_attrs["tries"]) == (1, "COMPLETE", 1)
    assert states(tmp_path) == ["complete"]
    printed = (tmp_path / "trials" / "0000" / "console.log").read_text().splitlines()
    assert printed == [f"epoch {epoch} of 0" for epoch in range(3)]


def test_a_full_disk_costs_the_trial_and_not_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = memory_search(n_trials=2)
    full = iter([OSError(28, "No space left on device", "console.log")])

    def is_held(folder: Path) -> bool:
        if (error := next(full, None)) is not None:
            raise error
        return False

    monkeypatch.setattr("segtrain.sweep.training.is_held", is_held)
    make_worker(search, tmp_path).run()
    assert kinds(search) == ["FAIL", "COMPLETE"]
    assert "the disk is full: console.log" in records(tmp_path)["0000"]["reason"]


def test_a_worker_with_nothing_left_waits_for_heartbeats_that_a_silent_storage_could_not_get(tmp_path: Path) -> None:
    search, other = file_search(tmp_path, n_trials=1), file_search(tmp_path, n_trials=1)
    other.worker = {"host": "elsewhere", "lock": "none"}
    assert other.ask() is not None
    worker = make_worker(search, tmp_path)
    assert not worker._over()
    worker.idle_since = -1e9
    search.patience.silent_at = search.patience.clock()
    assert not worker._over()
    search.patience.silent_at -= GRACE + 3 * HEARTBEAT
    assert worker._over()
