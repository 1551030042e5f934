"""The run folder: made and checked before training, with all that is needed to repeat the run."""

import json
import math
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from segtrain import __version__
from segtrain.errors import UserError
from segtrain.run_lock import hold

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "albumentations",
    "numpy",
)
HEADER = "# segtrain train --config-dir THIS_FOLDER --config-name config   repeats this run\n"


def prepare(run: Path, config: dict[str, Any], *, resumed: bool) -> None:
    """Make the folder, write config.yaml and environment.json, and start train.log.

    A run that is gone on with has no scores until it ends again: old ones beside new settings would be of neither.

    Raises:
        UserError: if it cannot be written, another run is there already, or a process is training there.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        if resumed:
            hold(run)
            (run / "metrics.json").unlink(missing_ok=True)  # of its last end; the new one writes it again
            for part in (run / "checkpoints").glob(".*.part"):  # of a write that was killed
                part.unlink()
            count = len(list(run.glob("resumed-*.yaml"))) + 1
            command = " ".join(sys.argv[1:])
            header = f"# resumed with {command}\n"
            write_text(run / f"resumed-{count}.yaml", header + _rerunnable(config))
        else:
            if (run / "config.yaml").exists():
                raise UserError(
                    f"{run}: another run is here already; resume=... goes on with it, "
                    "a new name=... or --rdzv-id starts anew"
                )
            write_text(run / "config.yaml", HEADER + _rerunnable(config))
            hold(run)
            write_text(run / "environment.json", json.dumps(environment(config["seed"]), indent=2) + "\n")
    except BlockingIOError as error:
        raise UserError(f"{run}: another process is training here; wait for its end or stop it") from error
    except OSError as error:
        raise UserError(f"paths.output: cannot write {run} ({error.strerror}); give paths.output=FOLDER") from error


def _rerunnable(config: dict[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create({"defaults": [{"hydra": "default"}, "_self_"], **config}))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a name that no other process uses, and put it in its place at once.

    Args:
        path: of the file.
        write: is given the other name, which ends as the file's does.
    """
    part = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file at once."""
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_metrics(path: Path, values: dict[str, Any]) -> None:
    """Write a flat JSON of numbers; the score of an absent class (NaN) is null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    write_text(path, json.dumps(clean, indent=2) + "\n")


def environment(seed: int) -> dict[str, Any]:
    """Return what is needed to repeat a run beside its config: versions, commit, command line."""
    return {
        "segtrain": __version__,
        "git_commit": git_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **_composed(),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: package_version(name) for name in PACKAGES},
    }


def _composed() -> dict[str, Any]:
    """Return a job's own overrides (a sweep's command has those of all jobs), and the option of every group."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    choices = {group: option for group, option in hydra.runtime.choices.items() if not group.startswith("hydra")}
    return {"overrides": list(hydra.overrides.task), "choices": choices}


def read_choices(run: Path) -> dict[str, str]:
    """Return {group: option} of a run, as it was begun; empty if its folder does not say."""
    path = run / "environment.json"
    choices = json.loads(path.read_text(encoding="utf-8")).get("choices", {}) if path.is_file() else {}
    return {group: str(option) for group, option in choices.items() if option is not None}


def package_version(name: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of segtrain's checkout, with '+changes' if files differ from it; None outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=5
        )
        return done.stdout.strip()

    try:
        tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
        return (
            git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "") if tracked else None
        )
    except (OSError, subprocess.SubprocessError):
        return None
