"""Start a Hydra command: run id, quoting of paths, configs out of checkpoints, and errors as sentences."""

import dataclasses
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from segtrain.config.locate import config_dir, shadowed, user_dirs
from segtrain.config.schema import ModelConfig, TrainConfig
from segtrain.config.suggest import did_you_mean, listed
from segtrain.errors import UserError, fail, message_of
from segtrain.jobs import finish_sweep
from segtrain.run_id import ensure_run_id

PATH_KEYS = ("root", "output", "input", "checkpoint", "resume", "weights", "file")
CHECKPOINT_COMMANDS = {"eval": "checkpoint", "predict": "checkpoint", "train": "resume"}


def launch(main: Callable[[], Any], command: str) -> None:
    """Run a function decorated with @hydra.main, and turn a user's mistake into one sentence.

    Args:
        main: the decorated function.
        command: the command's name; `eval`, `predict` and `train resume=` start from a checkpoint's config.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here unprinted
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no call home
    # threads that spin while they wait make a step ten times slower when the loader's workers need the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    failed = 0
    try:
        ensure_run_id()
        sys.argv[1:] = quote_paths(sys.argv[1:])
        _refuse_shadowing(sys.argv[1:])
        _refuse_null_groups(sys.argv[1:])
        _compose_from_checkpoint(command, CHECKPOINT_COMMANDS[command])
        try:
            main()
        finally:
            failed = finish_sweep()
    except UserError as error:
        if not failed:
            fail(message_of(error))
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        if type(error).__name__ == "InstantiationException":
            raise  # one of our constructors failed: a bug, shown whole
        fail(reword(error, cause))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            fail(f"the disk is full: {error.filename or error}; free some space or give paths.output=FOLDER elsewhere")
        if not _raised_by_hydra(error):
            raise
        fail(f"paths.output: cannot write {error.filename!r} ({error.strerror}); give paths.output=FOLDER")
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except Exception:
        if not failed:
            raise
    if failed:
        sys.exit(1)


def quote_paths(arguments: list[str]) -> list[str]:
    """Quote the values of overrides that are paths: Hydra's grammar refuses `= , ( [ ~ # &`, spaces and accents."""
    sweep = "-m" in arguments or "--multirun" in arguments  # there a comma separates values
    return [_quote(argument, sweep=sweep) for argument in arguments]


def _quote(argument: str, *, sweep: bool) -> str:
    key, sign, value = argument.partition("=")
    if (
        not sign
        or argument.startswith("-")
        or not value
        or value[0] in "'\"$"
        or re.fullmatch(r"[\w./:+-]*", value, re.A)
    ):
        return argument
    is_path = os.path.exists(os.path.expanduser(value))
    named = key.rsplit(".", 1)[-1] in PATH_KEYS and not (sweep and "," in value) and not value.startswith("[")
    if not (is_path or named):
        return argument
    escaped = os.path.expanduser(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _refuse_shadowing(arguments: list[str]) -> None:
    for folder in user_dirs(arguments):
        if not folder.is_dir():
            raise UserError(f"--config-dir: {folder} is not a folder")
        if names := shadowed(folder):
            raise UserError(
                f"--config-dir: {folder} has {listed(names)}, which segtrain ships too, and Hydra would use the "
                "shipped one; rename yours"
            )


def _refuse_null_groups(arguments: list[str]) -> None:
    for argument in arguments:
        group, sign, option = argument.partition("=")
        options = sorted(path.stem for path in (Path(config_dir()) / group).glob("*.yaml")) if sign and group else []
        if option in ("null", "") and options and group not in ("experiment", "debug"):
            raise UserError(f"{group}={option}: a choice is needed here (available: {listed(options)})")


def _override(arguments: list[str], key: str) -> str | None:
    values = [text.split("=", 1)[1] for text in arguments if text.startswith((f"{key}=", f"++{key}=", f"+{key}="))]
    if not values or values[-1] in ("null", ""):
        return None
    return values[-1].strip("'\"").replace("\\'", "'").replace("\\\\", "\\")


def _compose_from_checkpoint(command: str, key: str) -> None:
    """Let Hydra compose the command on top of the config that a checkpoint carries."""
    source = _override(sys.argv[1:], key)
    if (source is not None or key == "checkpoint") and {"-m", "--multirun"} & set(sys.argv):
        raise UserError(f"-m: {command} on a checkpoint is one job; call it once for each")
    if source is None:
        if key == "checkpoint":
            raise UserError(f"checkpoint: missing; give segtrain {command} checkpoint=RUN/checkpoints/best.ckpt")
        return
    from segtrain.checkpoint import read_checkpoint, resume_point

    path = resume_point(source) if key == "resume" else Path(source)
    # a checkpoint's config is data: only the keys of a run's schema (no hydra, defaults, output ...), and it cannot
    # vouch for itself
    allowed = {field.name for field in dataclasses.fields(TrainConfig if key == "resume" else ModelConfig)}
    config = {name: value for name, value in read_checkpoint(path)["config"].items() if name in allowed}
    config["trust"] = []
    if key == "resume":
        if "--config-name=resume" not in sys.argv:
            sys.argv.append("--config-name=resume")
    else:
        config |= {"callbacks": None, "logger": None}
    store_run_config(config)


def store_run_config(config: dict[str, Any]) -> None:
    """Make a plain config available to the `defaults` lists as `run_config`."""
    ConfigStore.instance().store(name="run_config", node=config)


def reword(error: BaseException, cause: BaseException | None) -> str:
    """Say in one sentence what Hydra refused, with the nearest right spelling."""
    if isinstance(error, MissingConfigException):
        missing = str(error.missing_cfg_file or "")
        group, _, option = missing.rpartition("/")
        options = [str(name) for name in error.options or []]
        if group:
            return f"{group}={option}: no such option.{did_you_mean(option, options)} (available: {listed(options)})"
        return str(error).splitlines()[0]
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value; put a value with special characters in '\"...\"'"
    key = re.search(r"Could not override '(\S+?)'", str(error))
    if key and "/" in key[1]:
        root = Path(config_dir())
        groups = sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("*.yaml")} - {"."})
        if key[1] not in groups:
            return f"{key[1]}: no such group.{did_you_mean(key[1], groups)} (there are: {listed(groups)})"
    if isinstance(error, ConfigCompositionException) and key and isinstance(cause, OmegaConfBaseException):
        name = key[1].split("@")[0]
        if cause.parent_node is not None:
            accepted = [str(k) for k in cause.parent_node]
            parent, _, last = name.rpartition(".")
            prefix = f"{parent}." if parent else ""
            hint = did_you_mean(last, accepted, prefix)
            return f"{name}: no such key.{hint} (there: {listed(accepted)}; ++{name}=... adds an argument)"
        return f"{name}: {str(cause).splitlines()[0]}"
    if key:
        return (
            f"{key[1]}: no group of this name can be chosen here; a command that starts from a checkpoint keeps its "
            "parts and takes values only, such as trainer.accelerator=cpu or trainer.devices=1"
        )
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


def _raised_by_hydra(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "hydra" in Path(frame.filename).parts or "logging" in frame.filename]
    return bool(ours) and not any("segtrain/commands" in f.filename for f in frames[frames.index(ours[0]) :])
