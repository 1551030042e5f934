"""How the tasks that `srun` started find each other, for Lightning: every task is a machine with one device."""

import os

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from segtrain.clusters.slurm import Task, first_machine, this_task


class SlurmRanks(ClusterEnvironment):
    """The ranks of one process a task.

    Lightning's own takes the job's number of tasks on each machine for every step of the job, and a rank's device from
    its place on the machine. Here a task brings its device (see `task_device`), so that any number of tasks on any
    number of machines will do, whether each sees all GPUs of its machine or its own alone.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        """MASTER_ADDR if the user sets it, else the first machine; this one without asking for its name."""
        alone = self.task.neighbours == self.task.count
        return os.environ.get("MASTER_ADDR") or ("127.0.0.1" if alone else first_machine(self.task.machines))

    @property
    def main_port(self) -> int:
        """MASTER_PORT if the user sets it, else one that no other step of this machine's jobs is likely to have."""
        if "MASTER_PORT" in os.environ:
            return int(os.environ["MASTER_PORT"])
        job, step = (int(os.environ[name]) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return 15000 + (7 * job + step) % 10000

    @staticmethod
    def detect() -> bool:
        return this_task() is not None

    def world_size(self) -> int:
        return self.task.count

    def set_world_size(self, size: int) -> None:
        """SLURM's number stands."""

    def global_rank(self) -> int:
        return self.task.rank

    def set_global_rank(self, rank: int) -> None:
        """SLURM's number stands."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self.task.rank


def task_device(task: Task, *, visible: int) -> int:
    """Return the index of the GPU that is a task's, of the `visible` ones that its process sees."""
    return 0 if visible == 1 else task.local_rank
