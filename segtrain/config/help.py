"""The text of `segtrain <command> --help`: keys of the command, groups and their options, read from the YAML files."""

import re
from pathlib import Path

from segtrain.config.locate import config_dir, user_dirs

# of the sweep command: how a space is written
SPACES = (
    "what is searched: KEY=RANGE adds to the chosen option of sweep= or changes it, ~sweep.space.KEY takes one out:",
    "  model=unet,pspnet                                     one of them, as choice(unet,pspnet)",
    "  'optimizer.lr=tag(log,interval(1e-5,1e-1))'           on a log scale; without tag(log,...) evenly",
    "  'loader.batch_size=range(4,17,step=4)'                4, 8, 12 or 16: the end is left out",
    "  'trainer.accumulate_grad_batches=int(interval(1,4))'  a whole number from 1 to 4",
    "a space of your own: FOLDER/sweep/mine.yaml, chosen by --config-dir FOLDER sweep=mine; its lines are:",
    "  # What is searched, in a line",
    "  sampler: random                                       any key of sweep. above",
    "  space:",
    "    optimizer: choice(adamw, sgd)",
    "    optimizer.momentum:",
    "      range: interval(0.8, 0.99)",
    "      when: optimizer=sgd                               searched only there; OPTION,OTHER for several",
    "    optimizer.lr:",
    "      when:                                             a range for each",
    "        optimizer=adamw: interval(1e-5, 1e-2)",
    "        optimizer=sgd: interval(1e-3, 1)",
    "",
)


def has_config(command: str) -> bool:
    """Say whether the command is configured by a YAML of its own (the others use argparse)."""
    return (Path(config_dir()) / f"{command}.yaml").is_file()


def command_help(command: str, summary: str, arguments: list[str]) -> str:
    """Return the help of a command; the options of a user's --config-dir are listed too.

    Args:
        command: such as `train`.
        summary: one line about it.
        arguments: the rest of the command line.
    """
    folders = [Path(config_dir()), *user_dirs(arguments)]
    roots = _roots(folders[0] / f"{command}.yaml")
    lines = [
        f"segtrain {command}: {summary}",
        "",
        f"usage: segtrain {command} [group=option ...] [key=value ...]",
        "",
    ]
    lines += ["keys", *[line for root in roots for line in _root_keys(root)], ""]
    defaults = {group: option for root in roots for group, option in _defaults(root).items()}
    groups = [group for group in _groups(folders) if group.split("/")[0] in defaults]
    if groups:
        lines.append("groups (the default is marked *)")
        for group in sorted(groups, key=lambda name: (name.split("/")[0], name)):
            chosen = defaults.get(group, _nested_default(folders[0], defaults, group))
            lines += _group_lines(group, folders, chosen)
        lines.append("")
    if "trainer" in defaults:
        lines += [
            "any key below a group can be set too: optimizer.lr=3e-4 dataset.crop_size=192; ++trainer.KEY=VALUE adds",
            "an argument of the Trainer.",
        ]
    elif groups:
        lines.append("any key below a group can be set too: dataset.root=FOLDER dataset.num_classes=5.")
    if command == "train":
        lines += ["", *_grid_lines(folders), ""]
    if "sweep" in defaults:
        lines += ["", *SPACES]
    lines += [
        f"segtrain {command} --cfg job             prints the whole configuration, --resolve with the values filled in",
        f"segtrain {command} --config-dir FOLDER   adds your own YAML files",
        f"segtrain {command} --hydra-help          Hydra's own flags",
    ]
    return "\n".join(lines)


def _grid_lines(folders: list[Path]) -> list[str]:
    """Return what -m does, and who runs its jobs."""
    group = "hydra/launcher"
    return [
        f"segtrain train -m model=unet,fcn seed=0,1   trains every combination, each in a folder of its own; {group}=",
        *_group_lines(group, folders, "local")[1:],
        *_root_keys(folders[0] / group / "slurm.yaml", "hydra.launcher."),
    ]


def _roots(root: Path) -> list[Path]:
    """Return a root YAML and those that its defaults list takes in whole."""
    taken = re.findall(r"^  - ([a-z]+)$", root.read_text(encoding="utf-8"), flags=re.MULTILINE)
    others = [root.with_name(f"{name}.yaml") for name in taken]
    return [root, *[path for path in others if path.is_file()]]


def _groups(folders: list[Path]) -> set[str]:
    hidden = ("hydra",)
    return {
        path.parent.relative_to(folder).as_posix()
        for folder in folders
        for path in folder.rglob("*.yaml")
        if path.parent != folder and not path.parent.relative_to(folder).as_posix().startswith(hidden)
    }


def _group_lines(group: str, folders: list[Path], chosen: str | None) -> list[str]:
    files = sorted(path for folder in folders for path in (folder / group).glob("*.yaml"))
    lines = [f"  {group}="]
    for path in files:
        mark = "*" if path.stem == chosen else " "
        lines.append(f"   {mark} {path.stem:<24}{first_comment(path)}")
    return lines


def first_comment(path: Path) -> str:
    """Return the first comment line of a YAML file without its '#'."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        return line.lstrip("# ").strip() if line.startswith("#") else ""
    return ""


def _root_keys(root: Path, before: str = "") -> list[str]:
    """Return the top-level keys of the root YAML (and one level below) with the comments beside them.

    Args:
        root: the file.
        before: what comes before each key.
    """
    lines, prefix = [], ""
    for line in root.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( {2})?([a-z_]+):\s*([^#]*?)\s*(?:#\s*(.*))?$", line)
        if not match or match[2] in ("defaults", "_target_"):
            continue
        indent, key, value, comment = match.groups()
        if not indent:
            prefix = f"{key}." if not value else ""
        if value:
            name = f"{before}{prefix if indent else ''}{key}={value}"
            lines.append(f"  {name:<38} {comment or ''}".rstrip())
    return lines


def _defaults(root: Path) -> dict[str, str]:
    """Return {group: option} of a root YAML's defaults list."""
    text = root.read_text(encoding="utf-8")
    return dict(re.findall(r"^  - (?:optional )?([a-z_/]+): ([a-z0-9_]+)", text, flags=re.MULTILINE))


def _nested_default(folder: Path, defaults: dict[str, str], group: str) -> str | None:
    """Return the default of a group inside a group: model/encoder is chosen by the chosen model's YAML."""
    parent, _, name = group.partition("/")
    if not name or parent not in defaults:
        return None
    path = folder / parent / f"{defaults[parent]}.yaml"
    return _defaults(path).get(name) if path.is_file() else None
