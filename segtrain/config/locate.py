"""Where the shipped configs are: in the wheel, or beside the package in a checkout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def config_dir() -> str:
    """Return the absolute folder of the shipped YAML files.

    Raises:
        FileNotFoundError: if the installation carries none.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no configs beside {PACKAGE}: the installation is broken, install segtrain again")


def user_dirs(arguments: Sequence[str]) -> list[Path]:
    """Return the folders that a command line names with --config-dir or -cd."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    return [Path(folder) for folder in parser.parse_known_args(arguments)[0].config_dir]


def shadowed(user_dir: Path) -> list[str]:
    """Return the files of a user's --config-dir that have the name of a shipped one.

    Hydra would silently use the shipped file, so the command refuses them.
    """
    shipped = Path(config_dir())
    found = (path.relative_to(user_dir) for path in sorted(user_dir.rglob("*.yaml")))
    return [str(name) for name in found if (shipped / name).is_file()]
