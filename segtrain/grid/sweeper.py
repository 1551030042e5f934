"""Which combinations of values are the jobs of a grid? Hydra's own sweeper says it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from segtrain.errors import UserError
from segtrain.grid.record import JOBS


class GridSweeper(BasicSweeper):
    """Hydra's own, but that one job which does not compose leaves the others alone."""

    __module__ = "hydra_plugins.segtrain"  # Hydra takes plugins from there only

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid; one that is refused leaves the multirun.yaml of the grid before it in its folder as it was."""
        assert self.config is not None
        path = Path(self.config.hydra.sweep.dir, "multirun.yaml")
        before = path.read_bytes() if path.is_file() else None
        try:
            return super().sweep(arguments)
        except UserError:
            if before is not None and not JOBS:
                path.write_bytes(before)
            raise

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """The launchers compose every job before the first one runs."""
