"""TensorBoard's hyperparameters tab: the settings at the start, the final scores at the end."""

from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

FINAL = ("val/miou", "test/miou")
LEFT_OUT = (
    "callbacks",
    "logger",
    "paths",
    "trust",
    "resume",
    "tags",
    "test",
    "name",
    "checkpoint",
    "augmentation",
)


def start_hparams(logger: Logger | None, cfg: dict[str, Any]) -> None:
    """Write the settings; scores appear beside them when the run ends, so that a sweep can be sorted."""
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        settings = flatten({key: value for key, value in cfg.items() if key not in LEFT_OUT})
        experiment, started, _ = hparams(settings, {f"final/{name}": 0.0 for name in FINAL})
        for summary in (experiment, started):
            logger.experiment.file_writer.add_summary(summary)


def finish_hparams(logger: Logger | None, values: dict[str, Any], *, step: int) -> None:
    """Write the final scores and mark the run as finished."""
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        for name in FINAL:
            if name in values:
                logger.experiment.add_scalar(f"final/{name}", values[name], step)
        logger.experiment.file_writer.add_summary(hparams({}, {})[2])
        logger.experiment.flush()


def flatten(node: Any, path: str = "") -> dict[str, bool | int | float | str]:
    """Return {dotted key: value} of a config's plain values; lists become text, nulls 'null'."""
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in flatten(value, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(node, bool | int | float | str):
        return {path: node}
    return {path: "null" if node is None else str(node)}
