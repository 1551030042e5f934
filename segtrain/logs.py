"""Where messages go: the terminal in few words, a run's train.log with everything."""

import logging
import sys
import warnings
from pathlib import Path

from segtrain.errors import full_disk
from segtrain.run_id import global_rank

log = logging.getLogger("segtrain")

# what Lightning and torch say and a user of segtrain cannot act on
SILENCED = (
    r".*does not have many workers.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*is smaller than the logging interval.*",
    r".*your dataloader is\s+not resumable.*",
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    r".*LeafSpec.*",
    r".*isinstance\(treespec.*",
    r".*lr_scheduler.step\(\)` before `optimizer.step.*",
    r".*GPU available but not used.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",  # scores are those of all ranks already
    r"The `srun` command is available on your system but is not used.*",  # nor has to be
    r".*Trying to infer the `batch_size`.*",
)


class LogFile(logging.FileHandler):
    """A log that a full disk cannot make fail: the run ends with a sentence once it writes a checkpoint."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is the library's
        error = sys.exc_info()[1]
        if error is None or full_disk(error) is None:
            super().handleError(record)


def start_logging(path: Path | None) -> None:
    """Send segtrain's messages to the terminal, and all messages and warnings to a file as well."""
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=message)
    logging.captureWarnings(True)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    rank = global_rank()
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    terminal.addFilter(lambda record: record.name.startswith("segtrain") or record.levelno >= logging.WARNING)
    root.addHandler(terminal)
    log.setLevel(logging.DEBUG)
    if path is not None and rank == 0:
        file = LogFile(path, delay=True, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(file)


def adopt_library_loggers() -> None:
    """Send what Lightning says to our handlers alone; it adds its own when it is imported."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        library = logging.getLogger(name)
        library.propagate = True
        for handler in list(library.handlers):
            library.removeHandler(handler)


def log_to_file(text: str) -> None:
    """Write an error to the log file only: the terminal shows it when the command ends."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, text, (), None))
