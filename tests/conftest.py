"""What the tests share: composing configs in process, running the command, small data sets, the real data."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: many small runs, on cores that are shared

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image
from warm import run_warm

from segtrain.config.check import check_keys
from segtrain.config.locate import config_dir
from segtrain.config.schema import TrainConfig

# a shell that starts the tests in the background has Ctrl-C ignored, for all that they start too
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
Compose = Callable[..., DictConfig]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def compose_config(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    """Compose a command's config as Hydra does, without running anything."""
    monkeypatch.setenv("SEGTRAIN_RUN_ID", "test")

    def composed(*overrides: str, name: str = "train") -> DictConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir(), version_base="1.3"):
            return compose(name, overrides=list(overrides))

    yield composed
    GlobalHydra.instance().clear()


@pytest.fixture
def train_config(compose_config: Compose) -> Callable[..., dict[str, Any]]:
    """Compose and check the keys of the train command; return the resolved config."""
    return lambda *overrides: check_keys(compose_config(*overrides), TrainConfig)


def run_segtrain(*arguments: str, cwd: Path, timeout: float = 300, warm: bool = True, **variables: str) -> Any:
    """Run `segtrain` in a process of its own.

    Args:
        arguments: of the command.
        cwd: its folder.
        timeout: in seconds.
        warm: with what it imports in memory; without, or with variables of its own, as a shell starts it.
        variables: of its environment.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **variables}
    environment.pop("SEGTRAIN_RUN_ID", None)
    if warm and not variables and sys.platform == "linux":
        return run_warm(list(arguments), cwd=cwd, environment=environment, timeout=timeout)
    command = [sys.executable, "-m", "segtrain", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def segtrain(tmp_path: Path) -> Run:
    """Run `segtrain` in an empty folder."""
    return functools.partial(run_segtrain, cwd=tmp_path)


def only_run(folder: Path) -> Path:
    """Return the only run folder below `folder`."""
    (run,) = (folder / "outputs" / "runs").iterdir()
    return run


def write_split(root: Path, split: str, count: int, *, size: int = 64, classes: int = 3, seed: int = 0) -> None:
    """Write images in CamVid's layout whose classes are vertical bands of their own brightness, with noise."""
    rng = np.random.default_rng((seed, len(split), ord(split[0])))
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = np.repeat(np.sort(rng.integers(0, classes, size))[None], size, axis=0).astype(np.uint8)
        image = mask[..., None] * 80 + rng.integers(0, 60, (size, size, 3))
        Image.fromarray(image.astype(np.uint8)).save(root / split / f"{number:03}.png")
        Image.fromarray(mask).save(root / f"{split}annot" / f"{number:03}.png")


def write_bands(root: Path) -> Path:
    """Write a data set in CamVid's layout with three classes: 8 training, 3 other images of 64x64."""
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        write_split(root, split, count)
    return root


BANDS = (
    "dataset=camvid",
    "dataset.num_classes=3",
    "dataset.class_names=[a,b,c]",
    "dataset.palette=null",
    "dataset.ignore_index=255",
    "dataset.crop_size=32",
    "model.encoder.base_channels=4",
    "model.encoder.depth=3",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "loader.batch_size=2",
    "loader.num_workers=0",
)


@pytest.fixture
def bands(tmp_path: Path) -> tuple[str, ...]:
    """Return the overrides of a run of a few seconds on a small data set of its own."""
    return (*BANDS, f"dataset.root={write_bands(tmp_path / 'bands')}")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets, or skip where there is none."""
    folder = Path(os.environ.get("SEGTRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder (set SEGTRAIN_TEST_DATA)")
    return folder
