"""Lightning's door to our checkpoint files."""

from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO

from segtrain.checkpoint import read_checkpoint, write_checkpoint
from segtrain.errors import UserError


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's door to `write_checkpoint` and `read_checkpoint`.

    Args:
        folder: the only one in which files are removed, whatever a checkpoint's callback states say.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        if Path(path).resolve().parent != self.folder:
            raise UserError(f"checkpoint: {path} is not in {self.folder} and is not removed")
        Path(path).unlink(missing_ok=True)
