"""Do trials get the GPUs and the cores that are theirs, and is everything that cannot be a sentence?"""

import logging
import os
import re
from contextlib import nullcontext
from typing import Any

import pytest
from conftest import Compose
from hydra import initialize_config_dir

from segtrain import launch as launching
from segtrain.config.check import check_keys
from segtrain.config.locate import config_dir
from segtrain.config.quoting import as_list
from segtrain.config.schema import SweepConfig
from segtrain.data.loader import choose_workers
from segtrain.errors import UserError
from segtrain.sweep import search, slots
from segtrain.sweep.slots import Slot, in_slot, make_slots, slots_of


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(slots, "num_cores", lambda: 8)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)


def made(
    available: int = 4, *, gpus: list[int] | None = None, each: int = 1, count: int | None = None, processes: int = 1
) -> list[Slot]:
    return make_slots(gpus=gpus, gpus_per_trial=each, slots=count, available_gpus=available, processes=processes)


def config(compose: Compose, *overrides: str) -> dict[str, Any]:
    return check_keys(compose(*overrides, "study=test", name="sweep"), SweepConfig)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gpus=0,1,2,3", "gpus=[0,1,2,3]"),
        ("gpus=2", "gpus=[2]"),
        ("gpus=[0,1]", "gpus=[0,1]"),
        ("gpus=null", "gpus=null"),
        ("gpus='0'", "gpus='0'"),
        ("gpus=", "gpus="),
        ("gpus=${x}", "gpus=${x}"),
        ("gpus_per_trial=2", "gpus_per_trial=2"),
        ("loader.gpus=1,2", "loader.gpus=1,2"),
        ("--config-dir=a,b", "--config-dir=a,b"),
    ],
)
def test_gpus_are_written_as_a_list(given: str, expected: str) -> None:
    assert as_list([given], "gpus") == [expected]


@pytest.mark.parametrize(("command", "expected"), [("sweep", "gpus=[0,3]"), ("train", "gpus=0,3")])
def test_the_sweep_command_alone_reads_a_comma_as_a_list(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [f"segtrain {command}", "gpus=0,3"])
    for name in ("HYDRA_FULL_ERROR", "NO_ALBUMENTATIONS_UPDATE", "OMP_WAIT_POLICY", "SEGTRAIN_RUN_ID"):
        monkeypatch.setenv(name, os.environ.get(name, "x"))
    seen: list[str] = []
    launching.launch(lambda: seen.extend(launching.sys.argv[1:]), command)
    assert seen == [expected]


def test_hydra_composes_the_list(compose_config: Compose) -> None:
    assert config(compose_config, *as_list(["gpus=0,1,2,3"], "gpus"))["gpus"] == [0, 1, 2, 3]
    assert config(compose_config, *as_list(["gpus=2"], "gpus"))["gpus"] == [2]
    with pytest.raises(UserError, match="gpus"):
        config(compose_config, *as_list(["gpus=first,second"], "gpus"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0,), (1,), (2,), (3,)]),
        ({"gpus": [2]}, [(2,)]),
        ({"gpus": [3, 1]}, [(3,), (1,)]),
        ({"each": 2}, [(0, 1), (2, 3)]),
        ({"gpus": [0, 1, 2], "each": 2}, [(0, 1)]),
        ({"count": 2}, [(0,), (1,)]),
        ({"gpus": [1], "count": 2}, [(1,), (1,)]),
        ({"gpus": [0, 1], "count": 4}, [(0,), (1,), (0,), (1,)]),
        ({"available": 0}, [()]),
        ({"available": 0, "count": 3}, [(), (), ()]),
    ],
)
def test_each_trial_has_gpus_of_its_own(options: dict[str, Any], expected: list[tuple[int, ...]]) -> None:
    found = made(**options)
    assert [slot.gpus for slot in found] == expected
    assert [slot.number for slot in found] == list(range(len(expected)))


@pytest.mark.parametrize(
    ("options", "cores", "threads"),
    [
        ({}, 2, 2),
        ({"each": 2}, 4, 2),
        ({"available": 0}, 8, 8),
        ({"available": 0, "count": 2}, 4, 4),
        ({"available": 0, "count": 3}, 2, 2),
        ({"available": 0, "processes": 2}, 8, 4),  # trainer=ddp_cpu
        ({"available": 0, "count": 16}, 1, 1),
    ],
)
def test_the_cores_are_shared_by_the_slots_and_theirs_by_the_processes(
    options: dict[str, Any], cores: int, threads: int
) -> None:
    assert {(slot.cores, slot.threads) for slot in made(**options)} == {(cores, threads)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gpus": [0, 4]}, "gpus: there is no GPU 4; this machine has 4 GPUs: give numbers below 4"),
        ({"gpus": [-1]}, "gpus: there is no GPU -1; this machine has 4 GPUs"),
        ({"available": 0, "gpus": [0, 1]}, "gpus: [0, 1], and torch sees no GPU on this machine; leave it out"),
        ({"gpus": [1, 1]}, "gpus: [1, 1] names one twice; give gpus=1, and slots=2 for several trials on one"),
        ({"each": 8}, "gpus_per_trial: 8, and there are 4 GPUs to use; give 4 or fewer"),
        ({"gpus": [1], "each": 2}, "gpus_per_trial: 2, and there are 1 GPU to use; give 1 or fewer"),
        ({"available": 0, "each": 2}, "gpus_per_trial: 2, and trials have no GPU to train on; leave it out"),
        ({"each": 0}, "gpus_per_trial: 0 is not a positive number of GPUs"),
        ({"count": 0}, "slots: 0 is not a positive number of trials"),
        ({"count": 6}, "slots: 6 trials cannot share 4 GPUs evenly; give slots=4, one trial a GPU, or slots=8"),
        ({"count": 3, "each": 2}, "slots: 3 trials of 2 GPUs, and 4 GPUs have room for 2; give slots=2 or a smaller"),
    ],
)
def test_more_than_the_machine_has_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        made(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gpus": [0], "count": 2}, "slots: 2 trials at a time on 1 GPU: 2 share one and its memory"),
        ({"available": 0, "count": 9}, "slots: 9 trials at a time share 8 cores, and slow each other down"),
        ({"gpus": [0, 1, 2], "each": 2}, "gpus_per_trial: 2 of 3 GPUs leave 1 unused"),
    ],
)
def test_what_is_asked_for_and_costs_something_is_said(
    options: dict[str, Any], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="segtrain"):
        made(**options)
    assert caplog.messages == [sentence]


def test_visible_devices_are_named_in_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    sentence = "gpus: there is no GPU 6; CUDA_VISIBLE_DEVICES=6,7 lets torch see 2 GPUs: give numbers below 2"
    with pytest.raises(UserError, match=re.escape(sentence)):
        made(2, gpus=[6])


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        (None, (2,), "2"),
        (None, (1, 3), "1,3"),
        ("4,5,6,7", (2,), "6"),
        ("4, 5", (0, 1), "4,5"),
        ("GPU-8932f937,MIG-3eb87630/1/0", (1,), "MIG-3eb87630/1/0"),
        ("7", (), "7"),
    ],
)
def test_numbers_count_the_gpus_that_are_visible(visible: str | None, gpus: tuple[int, ...], expected: str) -> None:
    base = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert Slot(0, gpus, 1).environment(base)["CUDA_VISIBLE_DEVICES"] == expected


def test_a_slot_without_gpus_leaves_those_that_are_visible_alone() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in Slot(0, (), 1).environment({})


def test_a_trials_process_is_no_rank_and_no_task_of_this_one() -> None:
    foreign = ("SEGTRAIN_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR",
               "MASTER_PORT", "ROLE_NAME", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS")  # fmt: skip
    own = {"HOME": "/home/me", "LOCAL_DATA": "/data", "OMP_NUM_THREADS": "64"}
    found = Slot(0, (), 3, 4).environment({**dict.fromkeys(foreign, "1"), **own})
    assert found == {**own, "OMP_NUM_THREADS": "3", "SEGTRAIN_CORES": "4"}


def test_a_training_loads_with_its_slots_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("segtrain.hardware.cpu_quota", lambda cgroup: None)
    assert choose_workers() == 8
    for name, value in Slot(0, (), 4, 4).environment({}).items():
        monkeypatch.setenv(name, value)
    assert choose_workers() == 3


@pytest.mark.usefixtures("four_gpus")
def test_the_config_makes_slots(compose_config: Compose) -> None:
    assert [slot.gpus for slot in slots_of(config(compose_config, "gpus=[1,3]"))] == [(1,), (3,)]
    (slot,) = slots_of(config(compose_config, "trainer=cpu"))
    assert slot == Slot(0, (), 8, 8)
    (slot,) = slots_of(config(compose_config, "trainer=ddp_cpu"))
    assert slot == Slot(0, (), 4, 8)
    with pytest.raises(UserError, match=re.escape("gpus: [0], and trainer.accelerator is cpu; leave gpus out")):
        slots_of(config(compose_config, "trainer=cpu", "gpus=[0]"))


@pytest.mark.usefixtures("four_gpus")
def test_each_named_part_of_a_gpu_is_a_slot_though_a_process_sees_one(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3eb87630, MIG-c6d4f1ef,MIG-cba663e8")

    def visible(*overrides: str) -> list[str]:
        return [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in slots_of(config(compose_config, *overrides))]

    assert visible() == ["MIG-3eb87630", "MIG-c6d4f1ef", "MIG-cba663e8"]
    assert visible("gpus=[2,0]") == ["MIG-cba663e8", "MIG-3eb87630"]
    with pytest.raises(UserError, match=r"gpus: there is no GPU 3; .*: give numbers below 3"):
        visible("gpus=[3]")
    sentence = "gpus_per_trial: 2, and of the 3 parts of GPUs (MIG) in CUDA_VISIBLE_DEVICES a process sees 1; give"
    with pytest.raises(UserError, match=re.escape(sentence)):
        visible("gpus_per_trial=2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)  # a driver that has learnt to show all
    assert visible("gpus_per_trial=3") == ["MIG-3eb87630,MIG-c6d4f1ef,MIG-cba663e8"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # a driver that has none of them
    assert [slot.gpus for slot in slots_of(config(compose_config))] == [()]


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("trainer", "each", "devices"),
    [
        ("auto", 1, 1),
        ("gpu", 1, 1),
        ("ddp", 1, 1),  # all that the trial sees
        ("ddp", 2, 2),
        ("fsdp", 4, 4),
        ("cpu", 1, 1),
        ("ddp_cpu", 1, 2),
    ],
)
def test_a_trainer_takes_the_devices_of_its_trial(trainer: str, each: int, devices: int, train_config: Any) -> None:
    assert in_slot(train_config(f"trainer={trainer}")["trainer"], each)["devices"] == devices


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("overrides", "each", "sentence"),
    [
        (["trainer=auto"], 2, "gpus_per_trial: 2, and trainer.devices: 1 trains on another number of them; give"),
        (["trainer=ddp", "trainer.devices=4"], 2, "gpus_per_trial: 2, and trainer.devices: 4 trains on another"),
        (["trainer=ddp", "trainer.devices=2"], 1, "trainer.devices: 2, and each trial has one GPU; give trainer=auto"),
        (["trainer=ddp", "trainer.devices=[2,3]"], 2, "trainer.devices: [2, 3] are GPUs by their numbers, which each"),
    ],
)
def test_a_trainer_that_takes_other_devices_is_a_sentence(
    overrides: list[str], each: int, sentence: str, train_config: Any
) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        in_slot(train_config(*overrides)["trainer"], each)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer=ddp"], None),  # the machine's four GPUs could not share 6 images; the trial's one can
        (["trainer=ddp", "gpus_per_trial=3"], None),
        (["trainer=ddp", "gpus_per_trial=4"], "loader.batch_size: 6 images cannot be divided over 4 devices"),
        (["trainer=auto", "gpus_per_trial=2"], "gpus_per_trial: 2, and trainer.devices: 1 trains on another number"),
    ],
)
def test_trials_are_checked_on_the_gpus_that_they_have(
    overrides: list[str], sentence: str | None, compose_config: Compose
) -> None:
    given = ["loader.batch_size=6", *overrides]
    cfg = config(compose_config, *given)
    cfg["sweep"]["space"] = {"optimizer.lr": "choice(0.1)"}  # one trial
    plan = search.make_plan(cfg, given)
    with (
        initialize_config_dir(config_dir(), version_base="1.3"),
        nullcontext() if sentence is None else pytest.raises(UserError, match=re.escape(sentence)),
    ):
        search.check_trials(plan)
