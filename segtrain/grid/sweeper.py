"""Which combinations of values are the jobs of a grid? Hydra's own sweeper says it."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class GridSweeper(BasicSweeper):
    """Hydra's own, but that one job which does not compose leaves the others alone."""

    __module__ = "hydra_plugins.segtrain"  # Hydra takes plugins from there only

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """The launchers compose every job before the first one runs."""
