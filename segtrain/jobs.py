"""The body of a command as a job: its log, and its failure."""

import logging
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from segtrain import ranks
from segtrain.errors import UserError, fail, full_disk, loader_died, message_of
from segtrain.logs import log_to_file, start_logging
from segtrain.results.run_log import COMMAND

log = logging.getLogger("segtrain")

TYPED: list[str] = []  # the words of the command, before some are rewritten for Hydra


def in_sweep() -> bool:
    """Say whether the running command is a job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def without_password(word: str) -> str:
    """Return a word of a command in which an address, such as a storage's, has no password.

    Neither before its host (`://USER:PASSWORD@`) nor in what is asked of it (`?password=PASSWORD`).
    """
    word = re.sub(r"(://[^:/]*):.*@", r"\1:***@", word)  # up to the last @: one of the password may not be written %40
    return re.sub(r"([?&]\w*(?:password|passwd|pwd)=).*?(?=&|['\"]?$)", r"\1***", word, flags=re.IGNORECASE)


@contextmanager
def job(*, log_file: str | None = None) -> Iterator[Path]:
    """Give a command's body its folder and log; its failure goes to that log.

    A user's mistake ends a single command here, in one sentence; in a sweep it goes on to the launcher, which runs
    the other jobs first.

    Args:
        log_file: name of the log in the run folder; None for commands that have none.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    start_logging(None if log_file is None else folder / log_file)
    log.debug(COMMAND + shlex.join([Path(sys.argv[0]).name, *map(without_password, TYPED)]))
    if in_sweep():
        log.info(f"job {folder.name}: {shlex.join(hydra.overrides.task) or 'no overrides'}")
    try:
        with nullcontext() if in_sweep() else ranks.together(folder if log_file else None), _worded(folder):
            yield folder
    except UserError as error:
        log_to_file(message_of(error))
        if not in_sweep():
            fail(message_of(error))
        raise
    except Exception:
        log_to_file(traceback.format_exc())
        raise


@contextmanager
def _worded(folder: Path) -> Iterator[None]:
    """Say what to do about a full disk, or a loader's worker that died, which both are met anywhere."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (sentence := full_disk(error) or loader_died(error)) is None:
            raise
        raise UserError(f"{sentence}{ranks.go_on(folder)}") from error
