"""The `segtrain` command: help and version at once, everything else by running the command's own module."""

import ast
import os
import runpy
import sys
from pathlib import Path

from segtrain import __version__

COMMANDS = Path(__file__).parent / "commands"


def main() -> None:
    """Run `segtrain <command> arguments...`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    if arguments[0] == "--version":
        print(f"segtrain {__version__}")
        return
    command, rest = arguments[0], arguments[1:]
    if command not in commands():
        from segtrain.config.suggest import did_you_mean

        known = ", ".join(commands())
        print(f"segtrain {command}: no such command.{did_you_mean(command, list(commands()))} (commands: {known})")
        sys.exit(2)
    if "--help" in rest or "-h" in rest:
        from segtrain.config.help import command_help, has_config

        if has_config(command):
            print(command_help(command, commands()[command], rest))
            return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that `_target_: mynet.Net` finds a mynet.py of the user's
    sys.argv = [f"segtrain {command}", *rest]
    # in place and under its own name, so that Lightning's DDP processes relaunch the right module
    runpy.run_module(f"segtrain.commands.{command}", run_name="__main__", alter_sys=True)


def commands() -> dict[str, str]:
    """Return {command: first line of its module's docstring}."""
    found = {}
    for path in sorted(COMMANDS.glob("[a-z]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = doc.splitlines()[0] if doc else ""
    return found


def overview() -> str:
    """Return the text of `segtrain --help`."""
    lines = [f"  {name:<10}{line}" for name, line in commands().items()]
    return "\n".join(
        [
            f"segtrain {__version__}: config-driven training of semantic segmentation networks",
            "",
            "usage: segtrain <command> [key=value ...] [flags]",
            "",
            *lines,
            "",
            "segtrain <command> --help   the command's keys and the choices of every group",
            "segtrain train              trains a U-Net on the built-in nuclei images; needs no argument",
            "segtrain --version",
        ]
    )
