"""Does a Trainer have the devices and machines that torchrun started processes for?"""

import re
from typing import Any

import pytest

from segtrain.build import build_trainer
from segtrain.clusters.torchrun import torchrun_layout
from segtrain.config.starting import start_problems
from segtrain.errors import UserError


def launched(machines: int, each: int) -> dict[str, str]:
    return {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": str(each), "WORLD_SIZE": str(machines * each)}


@pytest.mark.parametrize(
    ("trainer", "machines", "each", "expected"),
    [
        ({"devices": -1, "strategy": "ddp"}, 4, 8, {"devices": 8, "num_nodes": 4}),  # trainer=ddp
        ({"devices": "auto"}, 1, 2, {"devices": 2, "num_nodes": 1}),
        ({}, 3, 1, {"devices": 1, "num_nodes": 3}),
        ({"devices": 2}, 2, 1, {"devices": 1, "num_nodes": 2}),  # trainer=ddp_cpu: two processes over all machines
        ({"devices": 2}, 1, 2, {"devices": 2, "num_nodes": 1}),
        ({"devices": 8, "num_nodes": 4}, 4, 8, {"devices": 8, "num_nodes": 4}),
        ({"devices": [0, 2]}, 2, 2, {"devices": [0, 2], "num_nodes": 2}),
        ({"devices": "0,2"}, 2, 2, {"devices": "0,2", "num_nodes": 2}),
    ],
)
def test_devices_and_machines_are_those_that_torchrun_started(
    trainer: dict[str, Any], machines: int, each: int, expected: dict[str, Any]
) -> None:
    assert torchrun_layout(trainer, launched(machines, each)) == expected


@pytest.mark.parametrize(
    ("trainer", "sentence"),
    [
        (
            {"devices": 1},
            "trainer.devices: 1, but torchrun started 8 processes on each of 4 machines; give",
        ),
        ({"devices": [0, 1]}, "trainer.devices: [0, 1], but torchrun started 8 processes on each of 4 machines"),
        ({"devices": 32, "num_nodes": 4}, "trainer.devices: 32, but torchrun started 8 processes"),
        ({"num_nodes": 2}, "trainer.num_nodes: 2, but torchrun started 8 processes on each of 4 machines; leave"),
    ],
)
def test_another_number_than_torchrun_started_is_refused(trainer: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        torchrun_layout(trainer, launched(4, 8))


def test_machines_with_different_numbers_of_processes_are_refused() -> None:
    with pytest.raises(UserError, match="torchrun: 3 processes, 2 of them here; give every machine as many"):
        torchrun_layout({}, {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "3"})


def test_without_torchrun_nothing_is_changed() -> None:
    assert torchrun_layout({"devices": 3}, {"WORLD_SIZE": "8"}) == {}


def test_the_trainer_is_built_for_all_machines(
    train_config: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**launched(2, 1), "RANK": "1", "LOCAL_RANK": "0", "GROUP_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    trainer = build_trainer(train_config("trainer=ddp_cpu"), tmp_path, callbacks=[])
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (1, 2, 2)
    assert (trainer.global_rank, trainer.local_rank) == (1, 0)


@pytest.mark.parametrize(
    ("processes", "here", "overrides", "sentence"),
    [
        (2, 1, ["trainer=ddp", "trainer.devices=-1"], None),  # two machines of one GPU
        (2, 1, ["trainer=fsdp"], None),
        (2, 2, ["trainer=ddp", "loader.batch_size=2"], None),  # of the machine's eight GPUs
        (3, 3, ["trainer=ddp"], "loader.batch_size: 8 "),
        (2, 2, ["trainer=ddp", "trainer.devices=4"], "trainer.devices: 4, but torchrun started 2"),
        (1, 1, ["trainer=fsdp"], "trainer.devices: 1 gives one device"),
    ],
)
def test_what_is_checked_before_training_is_what_torchrun_started(
    processes: int,
    here: int,
    overrides: list[str],
    sentence: str | None,
    train_config: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("RUN_ID", "x"), ("ERROR_FILE", "/nowhere")):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, count in (("LOCAL_WORLD_SIZE", here), ("WORLD_SIZE", processes), ("GROUP_RANK", 0), ("LOCAL_RANK", 0)):
        monkeypatch.setenv(name, str(count))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1 if here == 1 else 8)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    problems = start_problems(train_config(*overrides), multirun=False)
    assert problems == [] if sentence is None else [problem[: len(sentence)] for problem in problems] == [sentence]
