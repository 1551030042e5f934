"""How far is the training of a running trial, by the files of its run folder?"""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segtrain.callbacks.metrics_csv import read_rows


@dataclass
class Progress:
    """How far a training is, read from its run folder when that has changed.

    Args:
        folder: the run folder.
        objective: the column of metrics.csv that is its score.
        mode: max or min.
    """

    folder: Path
    objective: str
    mode: str
    far: str = "starting"
    last: float | None = None
    best: float | None = None
    limits: dict[str, int] | None = field(default=None, repr=False)
    _read: tuple[int, int] = field(default=(0, 0), repr=False)

    def look(self) -> None:
        """Read what is new; a look at a file that is as it was costs one call of the system."""
        if self.limits is None:
            self.limits = _limits(self.folder)
            self.far = self._far("0", "0")
        path = self.folder / "metrics.csv"
        if self.limits is None or not path.is_file() or (seen := stamp(path)) == self._read:
            return
        self._read = seen
        if rows := read_rows(path):
            self.far = self._far(str(int(rows[-1]["epoch"]) + 1), rows[-1]["step"])
        scores = [float(row[self.objective]) for row in rows if row.get(self.objective)]
        if scores:
            self.last = scores[-1]
            self.best = max(scores) if self.mode == "max" else min(scores)

    def _far(self, epoch: str, step: str) -> str:
        if self.limits is None:
            return "starting"
        if self.limits["step"] > 0:
            return f"step {step}/{self.limits['step']}"
        return f"epoch {epoch}/{self.limits['epoch']}" if self.limits["epoch"] > 0 else f"epoch {epoch}"


def read_scores(folder: Path, monitor: str) -> list[tuple[int, float]]:
    """Return (epoch, score) of every validation so far."""
    rows = read_rows(folder / "metrics.csv")
    return [(int(row["epoch"]), float(row[monitor])) for row in rows if row.get(monitor)]


def was_last_validation(folder: Path) -> bool:
    """Say whether a run has validated for the last time: no other validation is due before its max_epochs or steps."""
    rows, limits = read_rows(folder / "metrics.csv"), _limits(folder)
    if not rows or limits is None:
        return False
    due = {"epoch": int(rows[-1]["epoch"]) + 1 + limits["every"], "step": int(rows[-1]["step"]) + 1}
    return any(0 < limits[unit] < next_one for unit, next_one in due.items())


def stamp(path: Path) -> tuple[int, int]:
    """Return by what it shows that a file has changed; (0, 0) while there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _limits(folder: Path) -> dict[str, int] | None:
    """Return after how many epochs and steps a run ends, -1 for no limit, and how often it validates in epochs.

    None as long as it has no config.yaml.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    try:
        config = OmegaConf.load(path)
        keys = {"step": "max_steps", "epoch": "max_epochs", "every": "check_val_every_n_epoch"}
        found = {name: OmegaConf.select(config, f"trainer.{key}") for name, key in keys.items()}
        return {name: int(value or (1 if name == "every" else -1)) for name, value in found.items()}
    except (OSError, OmegaConfBaseException):
        return None
