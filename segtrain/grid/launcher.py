"""What Hydra gives to a launcher of a grid's jobs."""

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridLauncher(Launcher):
    """A launcher that knows the config of all jobs, how one of them is composed, and the command that they run."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take them; called once, before `launch`."""
        self.context, self.task, self.config = hydra_context, task_function, config
