"""Does one command train, score, show and predict, and leave all that the README says in the run folder?"""

import csv
import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import BANDS, Run, only_run, run_segtrain, write_bands
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, jaccard_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtrain import tensorboard, training
from segtrain.callbacks.checkpoints import KeepBest
from segtrain.cost import COSTS

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Train once for all tests of this file: (run folder, finished process)."""
    folder = tmp_path_factory.mktemp("trained")
    root = write_bands(folder / "bands")
    own = (f"dataset.root={root}", "trainer.max_epochs=40", "name=first", "optimizer.lr=1e-2")
    done = run_segtrain("train", *BANDS, *own, cwd=folder, warm=False)
    assert done.returncode == 0, done.stderr
    return only_run(folder), done


def events(run: Path, folder: str = "tensorboard") -> EventAccumulator:
    accumulator = EventAccumulator(str(run / folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_the_run_folder_has_what_the_readme_says(trained: tuple[Path, object]) -> None:
    run, _ = trained
    assert run.name.startswith("first-")
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith("tensorboard/")}
    assert names == {
        *("config.yaml", "environment.json", "metrics.json", "metrics.csv", "train.log", "predictions.png"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/previous.ckpt"),
    }
    assert any((run / "tensorboard").glob("events*"))
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert f"dataset.root={run.parents[2] / 'bands'}" in environment["command"]


def test_the_output_names_scores_folder_picture_and_tensorboard(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, done = trained
    metrics = json.loads((run / "metrics.json").read_text())
    for name in CLASSES:
        line = next(words for words in done.stdout.splitlines() if words.split()[:1] == [name])
        cells = line.split()
        assert cells[1] == f"{metrics[f'test/iou/{name}']:.4f}"
        assert cells[2] == f"{metrics[f'test/f1/{name}']:.4f}"
    assert f"mIoU {metrics['test/miou']:.4f}" in done.stdout
    assert f"tensorboard --logdir {run / 'tensorboard'}" in done.stdout
    assert str(run / "predictions.png") in done.stdout
    assert "Warning" not in done.stdout + done.stderr, "a warning that the user cannot act on"


def test_the_best_checkpoint_is_the_one_with_the_best_score(trained: tuple[Path, object]) -> None:
    run, _ = trained
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(40))
    scores = [float(row["val/miou"]) for row in rows]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == scores.index(max(scores))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val/miou"] == max(scores)
    assert metrics["epoch"] == best["epoch"]
    assert all(math.isfinite(float(row["train/epoch_loss"])) for row in rows)


def test_a_finished_run_says_what_its_network_costs(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run, done = trained
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics.keys() >= COSTS.keys()
    assert all(metrics[name] > 0 for name in COSTS)
    assert f"{metrics['perf/parameters'] / 1e6:.2f} M parameters, {metrics['perf/gflops']:.2f} GFLOPs" in done.stdout


def test_the_network_learns(trained: tuple[Path, object]) -> None:
    run, _ = trained
    assert json.loads((run / "metrics.json").read_text())["test/miou"] > 0.5


def test_predicted_files_give_the_scores_that_the_run_reports(trained: tuple[Path, object], tmp_path: Path) -> None:
    run, _ = trained
    root = run.parents[2] / "bands"
    checkpoint = run / "checkpoints" / "best.ckpt"
    done = run_segtrain("predict", f"checkpoint={checkpoint}", f"input={root / 'test'}", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert [path.name for path in masks] == ["000.png", "001.png", "002.png"]
    predicted = np.concatenate([np.array(Image.open(path)).ravel() for path in masks])
    truth = np.concatenate([np.array(Image.open(root / "testannot" / path.name)).ravel() for path in masks])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/miou"] == pytest.approx(jaccard_score(truth, predicted, average="macro"), abs=1e-12)
    assert metrics["test/mean_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-12)
    assert metrics["test/pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert metrics["test/mean_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-12)
    assert Image.open(tmp_path / "out" / "overlays" / "000.png").size == (64, 64)

    again = run_segtrain("predict", f"checkpoint={checkpoint}", f"input={root / 'test'}", "output=out", cwd=tmp_path)
    assert again.returncode == 1
    assert "000.png is there already; give another folder or overwrite=true" in again.stderr


@pytest.mark.parametrize("batch_size", [1, 3])
def test_eval_gives_the_same_score_for_any_batch_size(trained: tuple[Path, object], batch_size: int) -> None:
    run, _ = trained
    checkpoint = run / "checkpoints" / "best.ckpt"
    done = run_segtrain(
        "eval", f"checkpoint={checkpoint}", "split=test", f"loader.eval_batch_size={batch_size}", cwd=run
    )
    assert done.returncode == 0, done.stderr
    scored = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    assert scored["test/miou"] == pytest.approx(metrics["test/miou"], abs=1e-12)
    with (run / "eval" / "test" / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(CLASSES)
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 3 * 64 * 64


def test_eval_of_val_repeats_the_score_of_training(trained: tuple[Path, object]) -> None:
    run, _ = trained
    done = run_segtrain("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", "split=val", cwd=run)
    assert done.returncode == 0, done.stderr
    scored = json.loads((run / "eval" / "val" / "metrics.json").read_text())
    assert scored["val/miou"] == json.loads((run / "metrics.json").read_text())["val/miou"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=unet"], "model: no group of this name can be chosen here"),
        (["inference.tilee=3"], "inference.tilee: no such key. Did you mean inference.tile?"),
        (["split=tset"], "split: "),
        (["dataset.root=/nowhere"], "/nowhere/test: no such folder; is dataset.root right?"),
        (
            ["dataset.num_classes=2", "dataset.class_names=[a,b]"],
            "was trained with dataset.num_classes=3 and another model",
        ),
    ],
)
def test_eval_refuses_what_does_not_fit_the_checkpoint(
    trained: tuple[Path, object], overrides: list[str], sentence: str, tmp_path: Path
) -> None:
    run, _ = trained
    done = run_segtrain("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", *overrides, cwd=tmp_path)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_that_names_foreign_code_runs_none_of_it(trained: tuple[Path, object], tmp_path: Path) -> None:
    from segtrain.checkpoint import read_checkpoint, write_checkpoint

    run, _ = trained
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    checkpoint["config"]["model"] = {"_target_": "os.mkdir", "path": str(tmp_path / "owned")}
    checkpoint["config"]["trust"] = ["os"]  # a checkpoint cannot vouch for itself
    write_checkpoint(checkpoint, tmp_path / "evil.ckpt")
    done = run_segtrain("eval", "checkpoint=evil.ckpt", cwd=tmp_path)
    assert done.returncode == 1
    assert "the checkpoint asks for 'os.mkdir', which segtrain does not trust" in done.stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (
            "hydra",
            {"callbacks": {"x": {"_target_": "sympy.sympify", "a": "__import__('pathlib').Path('owned').touch()"}}},
        ),
        (
            "model",
            {"_target_": "segtrain.models.unet.UNet", "num_classes": 3, "encoder": "\\${oc.create:'{_target_: a.b}'}"},
        ),
        ("logger", {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "name": "/owned", "version": "x"}),
        ("callbacks", {"x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "owned"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_runs_no_code_and_writes_no_files_when_resumed(
    trained: tuple[Path, object], key: str, value: object, tmp_path: Path
) -> None:
    from segtrain.checkpoint import read_checkpoint, write_checkpoint

    run, _ = trained
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    checkpoint["config"][key] = value
    write_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    done = run_segtrain("train", "resume=run", "test=false", cwd=tmp_path)
    assert not (tmp_path / "owned").exists()
    assert not Path("/owned").exists()
    if key != "hydra":  # a hydra key is left out, and the run goes on
        assert done.returncode == 1
        assert "checkpoint" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_checkpoint_is_one_job(trained: tuple[Path, object], tmp_path: Path) -> None:
    run, _ = trained
    for command in (("train", f"resume={run}"), ("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}")):
        done = run_segtrain(*command, "-m", "seed=0,1", cwd=tmp_path)
        assert done.returncode == 1
        assert "-m: " in done.stderr


def test_tensorboard_has_curves_pictures_and_hyperparameters(trained: tuple[Path, object]) -> None:
    run, _ = trained
    accumulator = events(run)
    tags = set(accumulator.Tags()["scalars"])
    assert {"train/loss", "val/loss", "val/miou", "val/iou/a", "perf/images_per_second", "test/miou"} <= tags
    assert any(tag.startswith("lr-") for tag in tags)
    assert "val/predictions" in accumulator.Tags()["images"]
    metrics = json.loads((run / "metrics.json").read_text())
    final = events(run, "tensorboard/final")
    for name in ("val/miou", "test/miou", "val/loss", "perf/images_per_second", "test/iou/a"):
        assert final.Scalars(f"final/{name}")[-1].value == pytest.approx(metrics[name])
    plugin = final.PluginTagToContent("hparams")
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info"} == set(plugin)
    assert b"optimizer.lr" in plugin["_hparams_/session_start_info"]


@pytest.mark.slow
def test_the_config_of_a_run_repeats_it(trained: tuple[Path, object], tmp_path: Path) -> None:
    run, _ = trained
    config = OmegaConf.load(run / "config.yaml")
    assert config["dataset"]["num_classes"] == 3
    done = run_segtrain("train", "--config-dir", str(run), "--config-name", "config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    second = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for name, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][name]), name


def test_the_picture_shows_image_truth_prediction_and_error(trained: tuple[Path, object]) -> None:
    run, _ = trained
    picture = np.array(Image.open(run / "predictions.png"))
    assert picture.shape[1] == 4 * 256
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_a_sweep_has_one_folder_and_a_table(segtrain: Run, bands: tuple[str, ...], tmp_path: Path) -> None:
    done = segtrain("train", "-m", *bands, "optimizer.lr=1e-3,-1", "name=grid")
    assert done.returncode == 1, "one of its jobs must fail: a negative learning rate"
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    metrics = json.loads((sweep / "0" / "metrics.json").read_text())
    assert not any(key.startswith("test/") for key in metrics), "jobs of a sweep leave the test split alone"
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "done", f"{metrics['val/miou']:.4f}", "optimizer.lr=0.001"] in table
    assert ["1", "failed", "optimizer.lr=-1"] in table
    assert "Invalid learning rate" in (sweep / "1" / "train.log").read_text()
    assert f"segtrain eval checkpoint={sweep / '0' / 'checkpoints' / 'best.ckpt'} split=test" in done.stdout


@pytest.mark.slow
def test_any_trainer_argument_and_a_users_own_model_are_taken(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes: int, width: int = 4):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, num_classes, 1))\n"
        "    def forward(self, image):\n"
        "        return self.layers(image)\n"
    )
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "mine.yaml").write_text(
        "# Mine\n_target_: mynet.Net\nnum_classes: ${dataset.num_classes}\nwidth: 8\n"
    )
    own = [argument for argument in bands if not argument.startswith("model.")]
    done = segtrain("train", "--config-dir", "my", "model=mine", *own, "++trainer.limit_train_batches=1")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    refused = segtrain("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}")
    assert "add trust=[mynet]" in refused.stderr
    trusted = segtrain("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", "trust=[mynet]")
    assert trusted.returncode == 0, trusted.stderr


def spoil(root: Path, fault: str) -> None:
    """Plant one fault into a data set."""
    image, mask = root / "train" / "003.png", root / "trainannot" / "003.png"
    if fault == "empty split":
        for path in (root / "val").iterdir():
            path.unlink()
    elif fault == "no mask":
        mask.unlink()
    elif fault == "mask size":
        Image.fromarray(np.zeros((10, 12), np.uint8)).save(mask)
    elif fault == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif fault == "label":
        Image.fromarray(np.full((64, 64), 9, np.uint8)).save(mask)
    elif fault == "16 bits":
        cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint16))
    elif fault == "colours":
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(mask)


@pytest.mark.parametrize(
    ("fault", "workers", "sentence"),
    [
        ("empty split", 0, "val: has no images"),
        ("16 bits", 0, "003.png: is of more than 8 bits, and the images before it are 8-bit"),
        ("no mask", 0, "1 of 8 images have no mask; missing: 003"),
        ("mask size", 0, "003.png: the mask is 12x10 and its image"),
        ("truncated", 1, "003.png: is not an image that OpenCV can read, or is truncated"),
        ("label", 1, "003.png: labels outside 0 to 2 and not dataset.ignore_index=255: 9 (4096 pixels)"),
        ("colours", 0, "003.png: a mask of class ids has one channel, and this has 3"),
    ],
)
def test_a_fault_of_the_data_names_the_file(
    fault: str, workers: int, sentence: str, segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    spoil(tmp_path / "bands", fault)
    done = segtrain("train", *bands, f"loader.num_workers={workers}")
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sentence in (only_run(tmp_path) / "train.log").read_text()


def test_a_batch_larger_than_the_data_is_a_sentence(segtrain: Run, bands: tuple[str, ...]) -> None:
    done = segtrain("train", *bands, "loader.batch_size=9")
    assert done.returncode == 1
    assert "loader.batch_size: 9 is more than the 8 training images" in done.stderr


def test_a_run_that_is_not_tested_has_its_metrics_json_when_all_else_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: dict[str, bool] = {}

    def looked(step: str, answer: dict[str, float]) -> dict[str, float]:
        there[step] = (tmp_path / "metrics.json").exists()
        return answer

    monkeypatch.setattr(training, "costs", lambda *given, **more: looked("cost", {"perf/gflops": 1.0}))
    monkeypatch.setattr(tensorboard, "finish_hparams", lambda *given, **more: looked("hparams", {}))
    trainer: Any = SimpleNamespace(
        callbacks=[KeepBest(tmp_path, monitor="val/miou", mode="max")],
        is_global_zero=True,
        strategy=SimpleNamespace(root_device="cpu"),
        precision_plugin=SimpleNamespace(forward_context=None),
        logger=None,
        global_step=1,
    )
    cfg: dict[str, Any] = {"augmentation": {}, "dataset": {}}
    monkeypatch.setattr(training, "crop_size", lambda cfg: (None, 64))
    nothing: Any = None
    training.finish(trainer, nothing, nothing, tmp_path, cfg, test=False)
    assert there == {"cost": False, "hparams": False}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"perf/gflops": 1.0}
