"""Is exactly what differed between runs a column?"""

from pathlib import Path

import pytest
from folders import write_run, write_trial

from segtrain.results.collect import collect
from segtrain.results.labels import short_labels
from segtrain.results.settings import columns

SCORES = {"val/miou": 0.5}


def shown(folder: Path) -> dict[str, list[object]]:
    return {name: list(values) for name, values in columns(collect(folder).groups).items()}


def test_a_group_that_was_chosen_is_one_column(tmp_path: Path) -> None:
    for job, model in enumerate(("unet", "pspnet")):
        write_run(tmp_path / str(job), f"model={model}", metrics=SCORES)
    assert shown(tmp_path) == {"model": ["unet", "pspnet"]}


def test_a_key_below_a_chosen_group_is_shown_where_it_differs_within_the_choice(tmp_path: Path) -> None:
    overrides = [("loss=ce",), ("loss=focal",), ("loss=focal", "loss.gamma=3")]
    for job, words in enumerate(overrides):
        write_run(tmp_path / str(job), *words, metrics=SCORES)
    assert shown(tmp_path) == {"loss": ["ce", "focal", "focal"], "loss.gamma": [None, 2.0, 3.0]}


def test_what_a_file_of_the_users_own_changed_below_a_chosen_group_is_shown_too(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "loss=ce", metrics=SCORES)
    for job, gamma in enumerate((2.0, 3.0), 1):
        run = write_run(tmp_path / str(job), "loss=focal", metrics=SCORES)
        text = (run / "config.yaml").read_text().replace("gamma: 2.0", f"gamma: {gamma}")
        (run / "config.yaml").write_text(text)
    assert shown(tmp_path) == {"loss": ["ce", "focal", "focal"], "loss.gamma": [None, 2.0, 3.0]}


def test_values_are_those_of_the_config_also_of_runs_that_did_not_give_them(tmp_path: Path) -> None:
    write_run(tmp_path / "0", metrics=SCORES)
    write_run(tmp_path / "1", "optimizer.lr=1e-2", metrics=SCORES)
    assert shown(tmp_path) == {"optimizer.lr": [0.001, 0.01]}


def test_one_value_written_in_two_ways_is_no_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "optimizer.lr=1e-3", "model=unet", metrics=SCORES)
    write_run(tmp_path / "1", "optimizer.lr=0.001", "model=pspnet", metrics=SCORES)
    assert list(shown(tmp_path)) == ["model"]


def test_without_a_record_of_choices_a_choice_has_the_name_of_its_class(tmp_path: Path) -> None:
    for job, model in enumerate(("unet", "pspnet")):
        folder = write_run(tmp_path / str(job), metrics=SCORES, choices=False)
        if model == "pspnet":
            text = (folder / "config.yaml").read_text().replace("segtrain.models.UNet", "segtrain.models.PSPNet")
            (folder / "config.yaml").write_text(text)
    assert shown(tmp_path) == {"model": ["UNet", "PSPNet"]}


def test_a_trial_without_a_run_folder_shows_what_was_searched(tmp_path: Path) -> None:
    lr = {"optimizer.lr": 0.1, "loss": "focal", "loss.gamma": 2.5}
    write_trial(tmp_path, 0, "failed", parameters=lr)
    trial = write_trial(tmp_path, 1, parameters={"optimizer.lr": 0.2, "loss": "ce"}, values=SCORES)
    write_run(trial / "seed-0", "seed=0", "optimizer.lr=0.2", "loss=ce", metrics=SCORES)
    assert shown(tmp_path) == {"optimizer.lr": [0.1, 0.2], "loss": ["focal", "ce"], "loss.gamma": [2.5, None]}


def test_the_seed_and_where_things_go_are_no_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", "seed=0", "paths.output=x", metrics=SCORES)
    write_run(tmp_path / "b" / "0", "seed=1", "paths.output=y", metrics=SCORES)
    assert shown(tmp_path) == {}
    assert len(collect(tmp_path).groups) == 1


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["optimizer.lr", "loss"], ["lr", "loss"]),
        (["model.depth", "model.encoder.depth"], ["model.depth", "encoder.depth"]),
        (["model", "model/encoder"], ["model", "encoder"]),
        (["a.b.c", "x.b.c"], ["a.b.c", "x.b.c"]),
    ],
)
def test_headings_are_short_and_differ(keys: list[str], labels: list[str]) -> None:
    assert list(short_labels(keys).values()) == labels
