"""Write arguments as Hydra's grammar takes them: it refuses `= , ( [ ~ # &`, spaces and accents in paths."""

import os
import re
from collections.abc import Sequence

PATH_KEYS = ("root", "output", "input", "checkpoint", "resume", "init_from", "weights", "file", "storage")


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote the values of overrides that are paths: existing ones, and those of keys that name one."""
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
    return f"{key}={quote(os.path.expanduser(value))}"


def quote(value: str) -> str:
    """Return a text between quotes; Hydra reads backslashes as they are, but for those before a quote."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), value)
    return f"'{escaped}'"


def unquote(value: str) -> str:
    """Return what stands between quotes, and a text without any as it is."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    escaped = rf"(\\+)({value[0]}|\Z)"
    return re.sub(escaped, lambda match: match[1][: len(match[1]) // 2] + match[2], value[1:-1])


def as_list(arguments: Sequence[str], key: str) -> list[str]:
    """Write the value of a key that takes a list as one: `gpus=0,1` is a sweep to Hydra, and `gpus=2` a number."""
    return [re.sub(rf"^({key}=)(?!null$)([^\[\]'\"$]+)$", r"\1[\2]", argument) for argument in arguments]


VALUED = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")


def flags_first(arguments: list[str]) -> list[str]:
    """Return the arguments with all flags, and their values, before the overrides.

    Lightning starts further processes with overrides of its own behind these, and Hydra's parser refuses overrides
    on both sides of a flag.
    """
    flags: list[str] = []
    overrides: list[str] = []
    flag = ""
    for argument in arguments:
        is_value = flag in VALUED or (flag != "" and "=" not in argument and argument[0] not in "-+~")
        is_flag = not is_value and argument.startswith("-")
        (flags if is_flag or is_value else overrides).append(argument)
        flag = argument if is_flag else ""
    return flags + overrides


def flags_alone(arguments: Sequence[str]) -> list[str]:
    """Return the flags of a grid's command line, and their values, that each of its jobs needs: not -m itself."""
    found: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before in VALUED or (argument.startswith("-") and argument not in ("-m", "--multirun")):
            found.append(argument)
    return found
