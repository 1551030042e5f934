"""Do the commands answer fast, say what is wrong in a sentence, and leave the user's files alone?"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Run
from hydra.core.override_parser.overrides_parser import OverridesParser

from segtrain import __version__
from segtrain.cli import commands
from segtrain.config.quoting import flags_first, quote, quote_paths, unquote

HEAVY = ("torch", "torchvision", "pytorch_lightning", "albumentations", "torchmetrics", "cv2", "numpy", "hydra", "rich")


def imported_by(code: str) -> set[str]:
    """Return the modules that a piece of code imports in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(['MODULES', *sys.modules]))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.split("MODULES\n")[1].split())


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    modules = imported_by(f"import sys; sys.argv = ['segtrain', '{flag}']\nfrom segtrain.cli import main; main()")
    assert not modules & set(HEAVY)


def test_the_config_check_comes_before_torch() -> None:
    code = "import segtrain.commands.train, segtrain.commands.eval, segtrain.commands.predict"
    assert not imported_by(code) & {"torch", "torchvision", "pytorch_lightning", "albumentations", "cv2"}


def test_training_imports_nothing_that_it_does_not_use() -> None:
    modules = imported_by("import segtrain.build, segtrain.training")
    # not matplotlib: torchmetrics imports it where it is installed
    unneeded = {"pandas", "tensorflow", "skimage", "sklearn", "timm", "onnx", "optuna", "IPython"}
    assert not modules & unneeded


def test_models_losses_and_metrics_know_neither_lightning_nor_hydra() -> None:
    code = "import segtrain.models, segtrain.losses, segtrain.schedulers, segtrain.inference, segtrain.data.samples"
    assert not imported_by(code) & {"pytorch_lightning", "hydra", "omegaconf"}


def test_version_answers_in_time(segtrain: Run) -> None:
    started = time.perf_counter()
    done = segtrain("--version", warm=False)
    assert done.stdout == f"segtrain {__version__}\n"
    assert time.perf_counter() - started < 3  # 0.03 s on a quiet machine; a torch import alone takes longer


def test_help_names_every_command(segtrain: Run) -> None:
    done = segtrain("--help")
    assert done.returncode == 0
    assert set(commands()) == {"check", "env", "eval", "models", "predict", "results", "show", "sweep", "train"}
    for command, line in commands().items():
        assert f"  {command:<10}{line}" in done.stdout


def test_help_of_a_command_lists_groups(segtrain: Run) -> None:
    for command in ("train", "eval", "predict", "check", "show"):
        done = segtrain(command, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"segtrain {command}: ")
    assert "checkpoint=???" in segtrain("eval", "--help").stdout


def test_the_config_can_be_printed(segtrain: Run) -> None:
    done = segtrain("train", "--cfg", "job", "--resolve")
    assert done.returncode == 0, done.stderr
    assert "num_classes: 2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trane"], "segtrain trane: no such command. Did you mean train?"),
        (["train", "model=unt"], "model=unt: no such option. Did you mean unet? (available: deeplabv3, deeplabv3plus,"),
        (["train", "modle=unet"], "modle: no such key. Did you mean model?"),
        (["train", "optimizer.lrr=1"], "optimizer.lrr: no such key. Did you mean optimizer.lr?"),
        (["train", "dataset.root=1"], "dataset.root: no such key"),
        (["train", "name=[1"], "name=[1: cannot be read as key=value"),
        (["train", "dataset=camvid"], "dataset.root: missing; give dataset.root=..."),
        (
            ["train", "optimizer=null"],
            "optimizer=null: a choice is needed here (available: adam, adamw, lion, muon, nadam, sgd)",
        ),
        (["train", "model/encodr=resnet18"], "model/encodr: no such group. Did you mean model/encoder?"),
        (["train", "--config-dir", "no where"], "--config-dir: no where is not a folder"),
        (["train", "--config-dir", "nowhere"], "--config-dir: nowhere is not a folder"),
        (["train", "paths.output=file/x"], "paths.output: cannot write"),
        (["train", "resume=nowhere"], "resume: nowhere is not a folder"),
        (["eval"], "checkpoint: missing"),
        (["eval", "checkpoint=nothing.ckpt"], "checkpoint: nothing.ckpt is not a file"),
        (["eval", "checkpoint=file"], "checkpoint: file is no checkpoint"),
        (["check", "dataset=camvid"], "dataset.root: missing; give dataset.root=..."),
        (["show", "-m", "seed=0,1"], "-m: show is one job; call it once for each"),
        (["check", "dataset.ignore_index=1", "workers=-1"], "2. workers: -1 is negative; give 0 or more"),
        (["check", "-m", "dataset=nuclei,camvid"], "-m: check is one job; call it once for each"),
        (["predict", "checkpoint=file", "input=.", "output=out"], "checkpoint: file is no checkpoint"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], sentence: str, segtrain: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder and no checkpoint")
    done = segtrain(*arguments)
    assert done.returncode in (1, 2)
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr


def test_a_users_file_with_a_shipped_name_is_refused(segtrain: Run, tmp_path: Path) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "unet.yaml").write_text("# mine\n")
    done = segtrain("train", "--config-dir", "my")
    assert done.returncode == 1
    assert "model/unet.yaml, which segtrain ships too" in done.stderr


def test_a_users_own_option_is_listed_by_help(segtrain: Run, tmp_path: Path) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "mine.yaml").write_text("# My own network\n_target_: mynet.Net\n")
    done = segtrain("train", "--config-dir", "my", "--help")
    assert any(line.split() == ["mine", "My", "own", "network"] for line in done.stdout.splitlines())


def test_env_prints_versions(segtrain: Run) -> None:
    done = segtrain("env")
    assert done.returncode == 0
    for word in ("segtrain", "torch", "gpus", "cpu"):
        assert any(line.startswith(word) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("dataset.root=/data/camvid", "dataset.root=/data/camvid"),
        ("dataset.root=/data/my set (1)", "dataset.root='/data/my set (1)'"),
        ("output=/tmp/a=b", "output='/tmp/a=b'"),
        ("input=é.png", "input='é.png'"),
        ("optimizer.lr=1e-3,3e-4", "optimizer.lr=1e-3,3e-4"),
        ("dataset.root=/a,/b", "dataset.root=/a,/b"),
        ("dataset.class_names=[a,b]", "dataset.class_names=[a,b]"),
        ("--config-dir=my dir", "--config-dir=my dir"),
        ("dataset.root=C:\\my data\\", "dataset.root='C:\\my data\\\\'"),
    ],
)
def test_paths_are_quoted_for_hydra(given: str, quoted: str) -> None:
    assert quote_paths(["-m", given]) == ["-m", quoted]


@pytest.mark.parametrize("text", ["a b", "it's", "a\\b", "C:\\", "\\'", "\\\\'\\", '"', "'", "", "a\n"])
def test_what_is_quoted_is_read_as_it_was(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quote(text)}").value() == text
    assert unquote(quote(text)) == text
    assert unquote("plain") == unquote('"plain"') == "plain"


def test_without_a_sweep_a_comma_is_part_of_the_path() -> None:
    assert quote_paths(["dataset.root=/a,b"]) == ["dataset.root='/a,b'"]


def test_a_path_with_spaces_and_signs_is_used(segtrain: Run, tmp_path: Path) -> None:
    done = segtrain("train", "--cfg", "job", "dataset=camvid", "dataset.root=/data/my set (1), new=é")
    assert done.returncode == 0, done.stderr
    assert "root: /data/my set (1), new=é" in done.stdout


def test_an_existing_folder_with_a_comma_is_a_path(tmp_path: Path, compose_config: Callable[..., Any]) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (override,) = quote_paths([f"dataset.root={folder}"])
    assert compose_config("dataset=camvid", override)["dataset"]["root"] == str(folder)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["resume=a", "--config-name=resume", "b=1"], ["--config-name=resume", "resume=a", "b=1"]),
        (["a=1", "--config-dir", "my", "b=-2", "-m"], ["--config-dir", "my", "-m", "a=1", "b=-2"]),
        (["a=1", "-cn"], ["-cn", "a=1"]),
        (["a=1", "--cfg", "job", "--resolve", "b=2"], ["--cfg", "job", "--resolve", "a=1", "b=2"]),
        (["-m", "~a", "+b=1", "-cd=x", "c=1"], ["-m", "-cd=x", "~a", "+b=1", "c=1"]),
        ([], []),
    ],
)
def test_flags_go_before_overrides_with_their_values(given: list[str], expected: list[str]) -> None:
    assert flags_first(given) == expected
