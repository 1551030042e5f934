"""Say in a sentence what Hydra refused, with the nearest right spelling."""

import re
import traceback
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from segtrain.config.locate import config_dir
from segtrain.config.suggest import did_you_mean, listed


def reword(error: BaseException, cause: BaseException | None) -> str:
    """Return the sentence for an error of Hydra's or OmegaConf's and the error that caused it."""
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


def null_group_problem(override: str) -> str | None:
    """Return the sentence for an override that chooses nothing of a group, which Hydra cannot; None for any other."""
    group, sign, option = override.partition("=")
    if option not in ("null", "") or not sign or not group:
        return None
    options = sorted(path.stem for path in (Path(config_dir()) / group).glob("*.yaml"))
    needed = "leave it out, or choose one" if group in ("experiment", "debug") else "a choice is needed here"
    return f"{group}={option}: {needed} (available: {listed(options)})" if options else None


def raised_by_hydra(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "hydra" in Path(frame.filename).parts or "logging" in frame.filename]
    return bool(ours) and not any("segtrain/commands" in f.filename for f in frames[frames.index(ours[0]) :])
