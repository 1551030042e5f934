"""How Hydra comes by the launchers and the sweeper of `configs/hydra`."""

import importlib
import sys
from types import ModuleType

from hydra.core.plugins import Plugins

PACKAGE = "hydra_plugins"  # Hydra instantiates what is in this package, to which other distributions may add


def register() -> None:
    """Make them known to Hydra, under the names that the YAML files have."""
    plugins = Plugins.instance()  # runs the modules of Hydra's own plugins anew: what derives from them comes later

    from segtrain.grid.local import LocalLauncher
    from segtrain.grid.slurm import SlurmLauncher
    from segtrain.grid.sweeper import GridSweeper

    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
        package.__path__ = []
    ours = ModuleType(f"{PACKAGE}.segtrain")
    for plugin in (GridSweeper, LocalLauncher, SlurmLauncher):
        plugins.register(plugin)
        setattr(ours, plugin.__name__, plugin)
    package.segtrain = sys.modules[ours.__name__] = ours  # type: ignore[attr-defined]
