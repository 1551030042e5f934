"""The sweep command's plan and its checks in this process, without a study and without a trial."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from segtrain.config.check import check_keys
from segtrain.config.locate import config_dir
from segtrain.config.quoting import quote_paths
from segtrain.config.schema import SweepConfig
from segtrain.config.searched import gather_ranges
from segtrain.sweep.search import Plan, make_plan


@contextmanager
def hydra_started(folder: str | None = None) -> Iterator[None]:
    """Let Hydra compose from segtrain's YAML files, or from another folder."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(folder or config_dir(), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def plan_of(*arguments: str) -> Plan:
    """Return the plan of `segtrain sweep ARGUMENTS`; Hydra is started already."""
    overrides = gather_ranges(quote_paths(arguments))
    cfg = compose("sweep", overrides=[*overrides, "study=test"])
    return make_plan(check_keys(cfg, SweepConfig), overrides)


def space_file(folder: Path, text: str) -> tuple[str, ...]:
    """Write a user's sweep/mine.yaml, and return the overrides that choose it."""
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "mine.yaml").write_text(f"# A space of the user's own\n{text}", encoding="utf-8")
    return (f"hydra.searchpath=[file://{folder}]", "sweep=mine")
