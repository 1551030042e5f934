"""TensorBoard's hyperparameters tab: the settings at the start, the final scores at the end.

They are in a folder of their own below the run's event files. TensorBoard makes the columns of the tab of all settings,
and of the scalars beside them, that the runs of a sweep have: so an unfinished run has no score, and a run that is
gone on with has its last settings and scores alone.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from segtrain.results.flat import says_what, settings_of

FINAL = "final"  # the folder, and the first part of the scores' names
MOST_CLASSES = 20  # whose scores are columns


def start_hparams(logger: Logger | None, cfg: dict[str, Any], *, choices: Mapping[str, str]) -> None:
    """Write the settings; scores appear beside them when the run ends, so that a sweep can be sorted.

    Args:
        logger: nothing is written by another than TensorBoard's.
        cfg: the resolved config.
        choices: {group: option} of it.
    """
    if isinstance(logger, TensorBoardLogger):
        shutil.rmtree(_folder(logger), ignore_errors=True)  # of the run before it was gone on with
        chosen = {group: option for group, option in choices.items() if says_what(group)}
        _write(logger, {**settings_of(cfg), **chosen}, {}, step=0, ended=False)


def finish_hparams(logger: Logger | None, values: Mapping[str, Any], *, step: int) -> None:
    """Write the final scores, those of metrics.json, and mark the run as finished."""
    if isinstance(logger, TensorBoardLogger):
        _write(logger, {}, final_scores(values), step=step, ended=True)
        logger.experiment.close()  # and its thread, of which a grid would have one more after every job


def final_scores(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a metrics.json by their names in the tab: those of single classes only if they are few."""
    numbers = {key: float(v) for key, v in values.items() if isinstance(v, int | float) and v == v}
    classes = [key for key in numbers if key.count("/") > 1]
    left_out = classes if len({key.split("/", 2)[2] for key in classes}) > MOST_CLASSES else []
    return {f"{FINAL}/{key}": value for key, value in numbers.items() if key not in left_out}


def _folder(logger: TensorBoardLogger) -> Path:
    return Path(logger.log_dir) / FINAL


def _write(
    logger: TensorBoardLogger, settings: Mapping[str, Any], scores: Mapping[str, float], *, step: int, ended: bool
) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    with SummaryWriter(str(_folder(logger))) as writer:
        for name, value in scores.items():
            writer.add_scalar(name, value, step)
        _, began, finished = hparams(dict(settings), {})
        writer.file_writer.add_summary(finished if ended else began)
