"""Does a search show how it is getting on: a table where it is watched, a line a trial where it is not?"""

import io
import json
import logging
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from conftest import Run
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from segtrain.sweep import live
from segtrain.sweep.live import View, clock, left, number, short, shown
from segtrain.sweep.run_progress import Progress, was_last_validation
from segtrain.sweep.slots import Slot
from segtrain.sweep.status import Status, best_of, status_of, time_left
from segtrain.sweep.study import Search
from segtrain.sweep.written_space import parse_space

SPACE = parse_space({"optimizer.lr": "interval(0, 1)", "loss": "choice(ce, focal)"})
DISTRIBUTIONS = {"optimizer.lr": FloatDistribution(0, 1), "loss": CategoricalDistribution(["ce", "focal"])}
CONFIG = "trainer:\n  max_epochs: ${epochs}\n  max_steps: -1\nepochs: 60\n"
HEADER = "epoch,step,train/epoch_loss,val/miou\n"


def add(
    study: optuna.Study, state: TrialState, value: float | None = None, *, seconds: float = 60, **attrs: Any
) -> int:
    """Add a trial that has ended; return its number."""
    number, end = len(study.trials), datetime.now()
    trial = create_trial(
        state=state,
        values=None if value is None else [value],
        params={"optimizer.lr": 0.125, "loss": "ce"},
        distributions=DISTRIBUTIONS,
        user_attrs={"folder": f"{number:04}", **attrs},
    )
    trial.datetime_start, trial.datetime_complete = end - timedelta(seconds=seconds), end
    study.add_trial(trial)
    return number


def run(worker: Any, *, lr: float = 0.00031, gpus: tuple[int, ...] = (), seconds: float = 65) -> Any:
    """Let a trial run; return what the worker knows of it."""
    study = worker.search.study
    study.enqueue_trial({"optimizer.lr": lr, "loss": "focal"})
    trial = study.ask(DISTRIBUTIONS)
    name = f"{trial.number:04}"
    folder = worker.folder / "trials" / name
    folder.mkdir(parents=True)
    running = SimpleNamespace(
        asked=SimpleNamespace(trial=trial, values=trial.params, folder=name),
        slot=Slot(len(worker.running), gpus, 1),
        training=SimpleNamespace(folder=folder, asked="", started=time.monotonic() - seconds),
        scores=[],
        seconds=0.0,
    )
    worker.running.append(running)
    return running


def end(worker: Any, running: Any, state: TrialState, record: str, value: float | None = None) -> None:
    """End a running trial as a worker does."""
    worker.running.remove(running)
    running.asked.trial.set_user_attr("reason", record)
    worker.search.study.tell(running.asked.trial, value, state=state)
    values = {} if value is None else {"val/miou": value}
    path = worker.folder / "trials" / running.asked.folder / "trial.json"
    path.write_text(json.dumps({"state": record, "values": values}))


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    study = optuna.create_study(direction="maximize")
    return SimpleNamespace(
        search=Search(study, SPACE, n_trials=20),
        folder=tmp_path,
        slots=[Slot(0, (), 1), Slot(1, (), 1)],
        seeds=[0],
        objectives={"val/miou": "max"},
        running=[],
        interrupted="",
        show=None,
    )


def rendered(view: View, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(view.render(width))
    return capture.get()


@pytest.fixture
def half_way(worker: Any) -> Any:
    """Five trials have ended, two run: one is in its third epoch, one has just been started."""
    study = worker.search.study
    for value in (0.21, 0.4312, 0.3):
        add(study, TrialState.COMPLETE, value)
    add(study, TrialState.PRUNED)
    add(study, TrialState.FAIL, reason="diverged")
    first, _ = run(worker, gpus=(1,)), run(worker, lr=0.5, gpus=(2, 3), seconds=5)
    (first.training.folder / "config.yaml").write_text(CONFIG)
    rows = "0,10,1.0,0.1\n1,20,0.9,0.37\n2,30,0.8,\n3,40,0.7,0.36\n"
    (first.training.folder / "metrics.csv").write_text(HEADER + rows)
    return worker


def test_the_table_says_how_far_each_trial_is_and_what_it_reached(half_way: Any) -> None:
    lines = rendered(View(half_way)).splitlines()
    (row,) = [line.split() for line in lines if line.strip().startswith("0005")]
    assert row == ["0005", "GPU", "1", "epoch", "4/60", "0.3600", "0.3700", "1:05", "lr=0.00031", "loss=focal"]
    (row,) = [line.split() for line in lines if line.strip().startswith("0006")]
    assert row == ["0006", "GPU", "2,3", "starting", "0:05", "lr=0.5", "loss=focal"]


def test_the_lines_below_count_the_trials_and_name_the_best(half_way: Any) -> None:
    text = rendered(View(half_way))
    assert "5 of 20 trials: 3 complete, 1 pruned, 1 failed, 2 running; about" in text
    assert "best 0.4312 of trial 0001: lr=0.125 loss=ce" in text


@pytest.mark.parametrize("width", [22, 34, 40, 52, 60, 70, 80, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_no_line_is_longer(half_way: Any, width: int) -> None:
    lines = rendered(View(half_way), width).splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.split()[:1] == ["0005"]]
    assert "…" not in row.partition("lr=")[0]  # what is shown is whole, but for the parameters
    assert [word in row for word in ("epoch 4/60", "0.3600", "1:05", "0.3700", "GPU 1", "lr=")] == [
        width >= least for least in (21, 32, 39, 48, 60, 80)
    ]


def test_before_the_first_trial_has_ended_nothing_is_foretold(worker: Any) -> None:
    run(worker)
    assert "0 of 20 trials: 1 running; time left known once a trial has ended" in rendered(View(worker))


def test_seeds_are_counted(worker: Any) -> None:
    worker.seeds = [0, 1, 2]
    running = run(worker)
    running.scores = [{"val/miou": 0.5}]
    (running.training.folder / "config.yaml").write_text(CONFIG)
    assert "epoch 0/60, seed 2 of 3" in rendered(View(worker))


def test_a_search_that_is_stopped_says_so_and_foretells_nothing(half_way: Any) -> None:
    half_way.interrupted = "SIGINT"
    half_way.running[0].training.asked = "SIGINT"
    text = rendered(View(half_way))
    assert "SIGINT: running trials save and end; Ctrl-C once more ends them at once" in text
    assert "left" not in text
    assert "stopping" in text


def test_several_objectives_have_a_front_and_no_best(worker: Any) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values in ([0.5, 10.0], [0.6, 20.0], [0.4, 30.0]):
        study.add_trial(create_trial(values=values))
    worker.search = Search(study, SPACE, n_trials=20)
    worker.objectives = {"val/miou": "max", "perf/latency_ms": "min"}
    assert "2 trials on the Pareto front of val/miou, perf/latency_ms" in rendered(View(worker))


def test_a_minimised_score_has_its_least_as_best(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 400, max_epochs: -1}\n")
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n0,100,0.5\n1,200,0.25\n2,300,0.75\n")
    progress = Progress(tmp_path, "val/loss", "min")
    progress.look()
    assert (progress.far, progress.last, progress.best) == ("step 300/400", 0.75, 0.25)


@pytest.mark.parametrize(
    ("limits", "last"),
    [
        ("{max_epochs: 3}", True),
        ("{max_epochs: 4}", False),
        ("{max_epochs: 5, check_val_every_n_epoch: 3}", True),
        ("{max_epochs: 6, check_val_every_n_epoch: 3}", False),
        ("{max_epochs: 4, check_val_every_n_epoch: null}", False),
        ("{max_epochs: -1, max_steps: 30}", True),
        ("{max_epochs: 3, max_steps: 1000}", True),
        ("{max_epochs: 4, max_steps: 31}", False),
        ("{}", False),
    ],
)
def test_the_last_validation_is_known_by_epochs_and_steps(limits: str, last: bool, tmp_path: Path) -> None:
    assert not was_last_validation(tmp_path)
    (tmp_path / "config.yaml").write_text(f"trainer: {limits}")
    assert not was_last_validation(tmp_path)
    (tmp_path / "metrics.csv").write_text("epoch,step,val/miou\n1,20,0.5\n2,30,0.5\n")
    assert was_last_validation(tmp_path) == last


def test_metrics_are_read_again_only_if_there_are_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "metrics.csv").write_text(HEADER + "0,10,1.0,0.1\n")
    reads: list[Path] = []
    monkeypatch.setattr("segtrain.sweep.run_progress.read_rows", lambda path: reads.append(path) or [])
    progress = Progress(tmp_path, "val/miou", "max")
    for _ in range(3):
        progress.look()
    assert len(reads) == 1
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1,20,0.9,0.2\n")
    progress.look()
    assert len(reads) == 2


@pytest.mark.parametrize("text", ["trainer: {max_epochs: '${nowhere}', max_steps: 3}", ""])
def test_a_config_that_does_not_read_yet_is_a_training_that_starts(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    progress = Progress(tmp_path, "val/miou", "max")
    progress.look()
    assert progress.far in ("starting", "epoch 0")


@pytest.mark.parametrize(
    ("durations", "elapsed", "waiting", "places", "expected"),
    [
        ([], [5], 3, 1, None),
        ([60], [], 0, 2, 0),
        ([40, 80], [], 1, 1, 60),
        ([60], [15], 0, 1, 45),
        ([60], [15], 1, 1, 105),
        ([60], [15, 45], 3, 2, 45 + 60 + 60 - 30),  # at 15: the second's next; at 45: the first's; at 75: the last
        ([60], [100], 1, 1, 60),  # longer than the mean already: it may end at any moment
        ([60], [0], 3, 4, 60),
    ],
)
def test_time_left_is_when_the_last_trial_ends(
    durations: list[float], elapsed: list[float], waiting: int, places: int, expected: float | None
) -> None:
    assert time_left(durations, elapsed=elapsed, waiting=waiting, places=places) == expected


def test_trials_of_other_workers_are_counted_and_work_on_what_is_left(worker: Any) -> None:
    study = worker.search.study
    add(study, TrialState.COMPLETE, 0.5, seconds=100)
    run(worker, seconds=0)
    for _ in range(2):
        study.ask(DISTRIBUTIONS)  # by others
    status = status_of(worker)
    assert (status.done, status.counts["running"]) == (1, 3)
    # 16 to begin in two slots here, one of them free, and two elsewhere: four rounds behind the running ones
    assert status.seconds_left == pytest.approx(500, abs=5)


@pytest.mark.parametrize(
    ("values", "objectives"),
    [
        ([[0.1], [0.5], [0.5], [0.3]], {"val/miou": "max"}),
        ([[0.3], [0.1], [0.5]], {"val/loss": "min"}),
        ([[0.1, 3], [0.5, 5], [0.5, 6], [0.2, 3]], {"val/miou": "max", "perf/latency_ms": "min"}),
        ([], {"val/miou": "max"}),
    ],
)
def test_the_best_trials_are_optunas_and_the_study_is_not_asked_for_them(
    values: list[list[float]], objectives: dict[str, str]
) -> None:
    study = optuna.create_study(
        directions=["maximize" if mode == "max" else "minimize" for mode in objectives.values()]
    )
    for each in values:
        study.tell(study.ask(), each)
    study.tell(study.ask(), state=TrialState.FAIL)
    found = [trial.number for trial in best_of(study.trials, objectives)]
    if len(objectives) > 1:
        assert found == [trial.number for trial in study.best_trials]
    else:
        assert found == ([study.best_trial.number] if values else [])


def test_without_a_terminal_each_trial_that_ends_is_a_line_and_nothing_else(
    worker: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    add(worker.search.study, TrialState.COMPLETE, 0.3)
    with caplog.at_level(logging.INFO, logger="segtrain"), shown(worker, Console(force_terminal=False)):
        first, second, third = run(worker), run(worker), run(worker)
        worker.show(worker)
        assert caplog.messages == []
        end(worker, first, TrialState.COMPLETE, "complete", 0.4312)
        worker.show(worker)
        worker.show(worker)
        end(worker, second, TrialState.PRUNED, "pruned")
        end(worker, third, TrialState.FAIL, "stopped")  # gone on with later: the worker says so
        worker.show(worker)
    first_line, second_line = caplog.messages
    assert first_line.startswith("trial 0001 complete val/miou 0.4312 (best 0.4312 of trial 0001), 2 of 20, about ")
    assert first_line.endswith(" left")
    assert second_line.startswith("trial 0002 pruned (best 0.4312 of trial 0001), ")
    assert capsys.readouterr().out == ""


def test_the_last_line_foretells_nothing(worker: Any, caplog: pytest.LogCaptureFixture) -> None:
    worker.search.n_trials = 1
    with caplog.at_level(logging.INFO, logger="segtrain"), shown(worker, Console(force_terminal=False)):
        running = run(worker)
        worker.show(worker)
        end(worker, running, TrialState.FAIL, "failed")
        worker.show(worker)
    assert caplog.messages == ["trial 0000 failed, 1 of 1"]


class Terminal(io.StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_table_is_drawn_a_few_times_a_second_and_log_lines_above_it(
    half_way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler(screen)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    now = [1000.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    drawn: list[int] = []
    render = View.render
    monkeypatch.setattr(View, "render", lambda view, width: drawn.append(width) or render(view, width))
    with shown(half_way, Console(width=100)):
        for _ in range(10):  # polls of two seconds
            half_way.show(half_way)
            now[0] += 0.2
        logging.getLogger("segtrain").warning("trial 0009 failed: no [such] choice")
    assert len(drawn) == 4
    assert handler.stream is screen
    text = screen.getvalue()
    assert "\x1b[1A\x1b[2K" in text  # the table is taken away before it is drawn again
    before, _, _ = text.partition("trial 0009 failed: no [such] choice")
    assert "epoch 4/60" in before
    assert before.endswith("\x1b[1A\x1b[2K")  # in the place of the table
    assert text.rindex("epoch 4/60") > text.index("trial 0009 failed")  # drawn again below the line


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = io.StringIO()
    with shown(worker, Console(file=screen, force_terminal=True)):
        run(worker)
        worker.show(worker)
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "time left known once a trial has ended"),
        (0.0, "about 1 s left"),
        (40.0, "about 40 s left"),
        (700.0, "about 12 min left"),
        (9000.0, "about 2.5 h left"),
        (200000.0, "about 2.3 days left"),
    ],
)
def test_durations_are_in_words(seconds: float | None, text: str) -> None:
    assert left(Status(n_trials=1, done=0, counts={}, best=[], seconds_left=seconds)) == text


def test_numbers_are_short() -> None:
    assert [number(value) for value in (None, 0.43123, 0.0, 12.5, 1e-5, 123456.0, float("nan"))] == [
        *("", "0.4312", "0.0000", "12.5000", "1e-05", "1.23e+05", "nan"),
    ]
    assert [clock(value) for value in (5.9, 65, 7384)] == ["0:05", "1:05", "2:03:04"]


def test_parameters_are_named_by_their_last_part_unless_two_share_it() -> None:
    values = {"optimizer.lr": 0.000312345, "loss": "ce", "model.encoder.depth": 4, "a.x": 1, "b.x": True}
    assert short(values) == "lr=0.000312 loss=ce depth=4 a.x=1 b.x=True"


@pytest.mark.slow
def test_a_search_of_trials_of_two_processes_prints_a_line_for_each(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    own = [argument for argument in bands if not argument.startswith(("trainer=", "trainer.max_epochs"))]
    given = ["trainer=ddp_cpu", "trainer.max_epochs=1", "norm=group", "n_trials=2", "study=pair"]
    done = segtrain("sweep", *own, *given)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("trial ")]
    assert [line.split()[:3] for line in lines] == [["trial", f"000{place}", "complete"] for place in range(2)]
    assert re.search(r", 1 of 2, about \d+ s left$", lines[0])
    assert lines[1].endswith(", 2 of 2")
    for place, line in enumerate(lines):
        trial = tmp_path / "outputs" / "sweeps" / "pair" / "trials" / f"000{place}"
        score = json.loads((trial / "metrics.json").read_text())["val/miou"]
        assert f"val/miou {score:.4f} " in line
        assert "2 x cpu" in (trial / "train.log").read_text()
