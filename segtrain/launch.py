"""Start a Hydra command: its run id, the config out of a checkpoint, and its errors as sentences."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from segtrain.clusters.slurm import in_shell, this_task
from segtrain.config.locate import shadowed, user_dirs
from segtrain.config.quoting import as_list, flags_first, quote_paths, unquote
from segtrain.config.schema import ModelConfig, TrainConfig
from segtrain.config.searched import gather_ranges
from segtrain.config.suggest import listed
from segtrain.config.wording import null_group_problem, raised_by_hydra, reword
from segtrain.errors import UserError, full_disk, message_of
from segtrain.grid.table import finish_grid
from segtrain.jobs import TYPED
from segtrain.lifeline import hold_lifeline
from segtrain.ranks.first_error import fail
from segtrain.run_id import ensure_run_id, in_slurm
from segtrain.signals import note_signals

CHECKPOINT_COMMANDS = {"eval": "checkpoint", "predict": "checkpoint", "train": "resume"}


def launch(main: Callable[[], Any], command: str) -> None:
    """Run a function decorated with @hydra.main, and turn a user's mistake into one sentence.

    Args:
        main: the decorated function.
        command: the command's name; `eval`, `predict` and `train resume=` start from a checkpoint's config.
    """
    TYPED[:] = sys.argv[1:]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here unprinted
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no call home
    # threads that spin while they wait make a step ten times slower when the loader's workers need the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if (task := this_task()) is not None and task.cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(task.cores))  # torch would take the whole machine in each task
    hold_lifeline()
    if command == "train" and in_slurm() and not in_shell():
        note_signals()  # a job that ends while it loads would not be run again
    failed = 0
    try:
        ensure_run_id()
        sys.argv[1:] = flags_first(quote_paths(sys.argv[1:]))
        if command == "sweep":
            sys.argv[1:] = as_list(sys.argv[1:], "gpus")
        _refuse_shadowing(sys.argv[1:])
        _refuse_null_groups(sys.argv[1:])
        if command in CHECKPOINT_COMMANDS:
            _compose_from_checkpoint(command, CHECKPOINT_COMMANDS[command])
        elif _is_grid(sys.argv):
            way = "it runs its trials itself; leave -m out" if command == "sweep" else "call it once for each"
            raise UserError(f"-m: {command} is one job; {way}")
        if command == "sweep":
            sys.argv[1:] = gather_ranges(sys.argv[1:])
        if command == "train":
            _refuse_lone_launcher(sys.argv[1:])
            from segtrain.grid.plugins import register

            register()
        try:
            main()
        finally:
            failed = finish_grid()
    except UserError as error:
        fail(message_of(error))
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        if type(error).__name__ == "InstantiationException":
            raise  # one of our constructors failed: a bug, shown whole
        fail(reword(error, cause))
    except OSError as error:
        if sentence := full_disk(error):
            fail(sentence)
        if not raised_by_hydra(error):
            raise
        fail(f"paths.output: cannot write {error.filename!r} ({error.strerror}); give paths.output=FOLDER")
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    if failed:
        sys.exit(1)


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
        if problem := null_group_problem(argument):
            raise UserError(problem)


def _is_grid(arguments: list[str]) -> bool:
    return bool({"-m", "--multirun"} & set(arguments))


def _refuse_lone_launcher(arguments: list[str]) -> None:
    launcher = _override(arguments, "hydra/launcher")
    if launcher not in (None, "local") and not _is_grid(arguments):
        raise UserError(
            f"hydra/launcher={launcher}: it runs the jobs of -m, and without -m the training would be in this process; "
            f"give segtrain train -m hydra/launcher={launcher} ..., or leave it out"
        )


def _override(arguments: list[str], key: str) -> str | None:
    values = [text.split("=", 1)[1] for text in arguments if text.startswith((f"{key}=", f"++{key}=", f"+{key}="))]
    if not values or values[-1] in ("null", ""):
        return None
    return unquote(values[-1])


def _compose_from_checkpoint(command: str, key: str) -> None:
    """Let Hydra compose the command on top of the config that a checkpoint carries."""
    source = _override(sys.argv[1:], key)
    if (source is not None or key == "checkpoint") and _is_grid(sys.argv):
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
            sys.argv.insert(1, "--config-name=resume")
    else:
        config |= {"callbacks": None, "logger": None}
    store_run_config(config)


def store_run_config(config: dict[str, Any]) -> None:
    """Make a plain config available to the `defaults` lists as `run_config`."""
    ConfigStore.instance().store(name="run_config", node=config)
