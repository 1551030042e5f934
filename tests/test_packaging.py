"""Does the built wheel work from an empty folder, and do the scripts fail with a sentence?"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, only_run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the build backend of this environment: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_configs_and_built_in_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configs = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {f"segtrain/configs/{name}" for name in configs} <= set(names)
    assert "segtrain/py.typed" in names
    assert "segtrain/data/nuclei/README.md" in names
    masks = [name for name in names if name.startswith("segtrain/data/nuclei/masks/")]
    images = [name for name in names if name.startswith("segtrain/data/nuclei/images/")]
    assert len(masks) == len(images) >= 100
    assert not [name for name in names if not name.startswith(("segtrain/", "segtrain-"))]


def test_the_installed_wheel_trains_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next((environment / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    # this environment's packages, but not its editable segtrain
    parent = Path(sysconfig.get_paths()["purelib"])
    (site / "parent.pth").write_text(f"import sys; sys.path.append({str(parent)!r})\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SEGTRAIN_RUN_ID")}
    command = [str(environment / "bin" / "python"), "-m", "segtrain"]
    where = subprocess.run(
        [command[0], "-c", "import segtrain; print(segtrain.__file__)"],
        cwd=empty, env=variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(site) in where.stdout
    done = subprocess.run(
        [*command, "train", "debug=fast", "model.encoder.base_channels=4", "trainer=cpu"],
        cwd=empty, env={**variables, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (only_run(empty) / "metrics.json").is_file()


def script(name: str, checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(checkout / "scripts" / name)],
        env={"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/"), **variables},
        cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what the scripts read, without an environment; what is in its bin/ goes before the system's."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    fake("df", "echo head; echo dev 99999999 0 99999999 0% /", tmp_path)  # whatever this machine's disk has
    return tmp_path


def fake(program: str, does: str, checkout: Path) -> None:
    path = checkout / "bin" / program
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["demo.sh", "test.sh"])
def test_the_scripts_refuse_an_old_python_in_a_sentence(name: str, checkout: Path) -> None:
    fake("python3.9", 'case "$1" in --version) echo Python 3.9.1;; *) exit 1;; esac', checkout)
    done = script(name, checkout, PYTHON="python3.9")
    assert done.returncode == 1
    assert "segtrain: Python 3.11 or newer is needed (found: Python 3.9.1)" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_full_disk_is_a_sentence(checkout: Path) -> None:
    fake("df", "echo head; echo dev 100 99 1048576 99% /", checkout)
    done = script("demo.sh", checkout)
    assert done.returncode == 1
    assert "has 1 GiB free and the installation needs" in done.stderr


def test_a_failed_installation_is_a_sentence_and_is_tried_again(checkout: Path) -> None:
    fake("uv", "exit 1", checkout)
    for _ in range(2):
        done = script("demo.sh", checkout, PYTHON=sys.executable)
        assert done.returncode == 1
        assert "uv could not make" in done.stderr


@pytest.mark.parametrize("stamp", [".installed", ".installed-dev"])
def test_an_installed_environment_is_used_without_the_network(stamp: str, checkout: Path) -> None:
    bin_folder = checkout / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "segtrain").write_text('#!/bin/sh\necho "ran with $@"\n')
    (bin_folder / "segtrain").chmod(0o755)
    text = (checkout / "pyproject.toml").read_bytes() + (checkout / "constraints.txt").read_bytes()
    sums = subprocess.run(["cksum"], input=text, capture_output=True, check=True).stdout.decode().strip()
    (checkout / ".venv" / stamp).write_text(f"{sums} {checkout}\n")
    fake("uv", "exit 1", checkout)
    done = script("demo.sh", checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran with train\n"


def test_continuous_integration_runs_the_test_script() -> None:
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text()
    assert "bash scripts/test.sh" in (ROOT / ".github" / "workflows" / "test.yml").read_text()
