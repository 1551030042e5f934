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
    end: tuple[str, int] | None = field(default=None, repr=False)
    _read: tuple[int, int] = field(default=(0, 0), repr=False)

    def look(self) -> None:
        """Read what is new; a look at a file that is as it was costs one call of the system."""
        if self.end is None:
            self.end = _end_of(self.folder)
            self.far = self._far("0", "0")
        path = self.folder / "metrics.csv"
        if self.end is None or not path.is_file() or (seen := stamp(path)) == self._read:
            return
        self._read = seen
        if rows := read_rows(path):
            self.far = self._far(str(int(rows[-1]["epoch"]) + 1), rows[-1]["step"])
        scores = [float(row[self.objective]) for row in rows if row.get(self.objective)]
        if scores:
            self.last = scores[-1]
            self.best = max(scores) if self.mode == "max" else min(scores)

    def _far(self, epoch: str, step: str) -> str:
        if self.end is None:
            return "starting"
        unit, count = self.end
        return f"{unit} {epoch if unit == 'epoch' else step}/{count}" if count > 0 else f"epoch {epoch}"


def read_scores(folder: Path, monitor: str) -> list[tuple[int, float]]:
    """Return (epoch, score) of every validation so far."""
    rows = read_rows(folder / "metrics.csv")
    return [(int(row["epoch"]), float(row[monitor])) for row in rows if row.get(monitor)]


def has_trained(folder: Path) -> bool:
    """Say whether the last validation is that at the end: of max_epochs, or of max_steps."""
    rows, end = read_rows(folder / "metrics.csv"), _end_of(folder)
    if not rows or end is None:
        return False
    unit, count = end
    done = int(rows[-1]["epoch"]) + 1 if unit == "epoch" else int(rows[-1]["step"])
    return 0 < count <= done


def stamp(path: Path) -> tuple[int, int]:
    """Return by what it shows that a file has changed; (0, 0) while there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _end_of(folder: Path) -> tuple[str, int] | None:
    """Return what ends a run by its config.yaml, as ("epoch" or "step", how many); None as long as there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    try:
        config = OmegaConf.load(path)
        steps, epochs = (OmegaConf.select(config, f"trainer.max_{name}") for name in ("steps", "epochs"))
    except (OSError, OmegaConfBaseException):
        return None
    return ("step", int(steps)) if (steps or -1) > 0 else ("epoch", int(epochs or -1))
