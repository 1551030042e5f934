"""Which combinations of values are the jobs of a grid? Hydra's own sweeper says it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from segtrain.clusters.slurm import this_task
from segtrain.errors import UserError
from segtrain.grid.record import JOBS
from segtrain.ranks.first_error import meeting


class GridSweeper(BasicSweeper):
    """Hydra's own, but that one job which does not compose leaves the others alone."""

    __module__ = "hydra_plugins.segtrain"  # Hydra takes plugins from there only

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid; one that is refused leaves the multirun.yaml of the grid before it in its folder as it was."""
        assert self.config is not None
        _refuse_ranks()
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


def _refuse_ranks() -> None:
    """Refuse a grid of several processes, in each of them alike: they would write into the same folders.

    Raises:
        UserError: naming who started them.
    """
    if meeting() is None:
        return
    if (task := this_task()) is not None:
        started, way = f"srun started {task.count} tasks", "give srun --ntasks=1"
    else:
        started, way = f"torchrun started {os.environ['WORLD_SIZE']} processes", "leave torchrun out"
    raise UserError(
        f"-m: {started}, and a grid is one process, which runs its jobs one by one; {way}, with hydra/launcher=slurm "
        "for jobs of several processes, or start each job by itself"
    )
