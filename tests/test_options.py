"""Do the settings that are no components do what their comments say, in a real run of a few seconds?"""

import csv
from pathlib import Path

import pytest
import torch
from conftest import Compose, Run, only_run

from segtrain.data.sampler import EpochSampler


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "overrides",
    [
        ("deterministic=exact",),
        ("deterministic=none", "ema=false", "logger=none"),
        (
            "callbacks=none",
            "scheduler=cosine",
            "optimizer=sgd",
            "loss=ce",
            "loss.class_weights=auto",
            "perf.channels_last=false",
        ),
        ("debug=profile", "scheduler=constant", "loss=dice"),
        ("debug=anomaly", "inference.flip=true", "inference.tile=64", "augmentation=light"),
        ("trainer.max_steps=3", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=-1"),
        ("++trainer.limit_val_batches=0",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_a_run_with_these_settings_ends_well(
    overrides: tuple[str, ...], segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    own = bands
    if "trainer.max_epochs=-1" in overrides:
        own = tuple(argument for argument in bands if not argument.startswith("trainer.max_epochs"))
    done = segtrain("train", *own, *overrides)
    assert done.returncode == 0, done.stderr
    assert "test: mIoU" in done.stdout or "debug=profile" in overrides
    if "trainer.max_steps=3" in overrides:  # of the 4 of an epoch: validated after the last
        assert [row["step"] for row in rows(only_run(tmp_path))] == ["3"]


def test_a_run_trains_on_a_fraction_of_a_fold_balanced_and_from_memory(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    parts = ("dataset.folds=2", "dataset.fold=1", "dataset.fraction=0.5", "sampling=balanced", "loader.cache=ram")
    done = segtrain("train", *bands, *parts, "loader.num_workers=1")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    text = (run / "train.log").read_text()
    assert "train: 3 images cached" in text  # of 11 in train and val, 5 validate, and half of 6 train
    assert "val: 5 images cached" in text
    table = rows(run)
    assert [int(row["step"]) for row in table] == [1, 2]  # 3 images by 2
    assert all(0 <= float(row["perf/data_wait_fraction"]) <= 1 for row in table)
    assert "test: mIoU" in done.stdout


def test_a_second_run_maps_the_cache_of_the_first(segtrain: Run, bands: tuple[str, ...], tmp_path: Path) -> None:
    seen = []
    for number in range(2):
        done = segtrain(
            *("train", *bands, "loader.cache=disk", f"name=run{number}", "trainer.max_epochs=1", "test=false"),
            *("sampling=repeat_factor", "loader.num_workers=1"),
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("images cached") == (2 if number == 0 else 0)
        files = sorted((tmp_path / "outputs" / "cache").glob("camvid-*/*"))
        seen.append([(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in files])
    assert [path.name for path, *_ in seen[0]] == ["data.bin", "index.json"] * 2
    assert seen[0] == seen[1]
    losses = [rows(run)[0]["train/epoch_loss"] for run in sorted((tmp_path / "outputs" / "runs").iterdir())]
    assert losses[0] == losses[1]


def test_overfit_sees_the_same_batches_again_and_again(segtrain: Run, bands: tuple[str, ...], tmp_path: Path) -> None:
    own = [argument for argument in bands if not argument.startswith(("trainer.max", "trainer.check"))]
    done = segtrain("train", *own, "debug=overfit", "optimizer.lr=1e-2", "trainer.max_epochs=60")
    assert done.returncode == 0, done.stderr
    losses = [float(row["train/epoch_loss"]) for row in rows(only_run(tmp_path))]
    assert losses[-1] < losses[0] / 2


def test_the_average_is_saved_and_the_weights_beside_it(segtrain: Run, bands: tuple[str, ...], tmp_path: Path) -> None:
    assert segtrain("train", *bands, "ema=true", "ema_decay=0.9").returncode == 0
    checkpoint = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    name = "model.classifier.weight"
    assert not torch.equal(checkpoint["state_dict"][name], checkpoint["training_state_dict"][name])


def test_a_later_choice_wins_over_an_earlier_one(compose_config: Compose, tmp_path: Path) -> None:
    root = f"dataset.root={tmp_path}"
    assert compose_config("dataset=camvid", root)["trainer"]["max_epochs"] == 60
    assert compose_config("experiment=camvid_deeplabv3plus", root)["trainer"]["max_epochs"] == 200
    assert compose_config("experiment=camvid_deeplabv3plus", "debug=fast", root)["trainer"]["max_epochs"] == 1
    words = ("experiment=camvid_deeplabv3plus", "debug=fast", "trainer.max_epochs=7", root)
    assert compose_config(*words)["trainer"]["max_epochs"] == 7


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    weights = []
    for number, (seed, workers) in enumerate([(0, 0), (0, 2), (1, 0)]):
        output = tmp_path / str(number)
        own = (f"seed={seed}", f"loader.num_workers={workers}", f"paths.output={output}")
        done = segtrain("train", *bands, *own, warm=number > 0)
        assert done.returncode == 0, done.stderr
        (run,) = (output / "runs").iterdir()
        weights.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["model.classifier.weight"], weights[2]["model.classifier.weight"])


def test_a_repeated_epoch_has_the_keys_of_the_first() -> None:
    sampler = EpochSampler(10, batch_size=2, seed=3, same_epoch=True)
    first = list(sampler)
    sampler.set_epoch(4)
    assert list(sampler) == first
    free = EpochSampler(10, batch_size=2, seed=3)
    free.set_epoch(4)
    assert list(free) != first
