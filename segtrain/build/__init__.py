"""From a checked config to objects, one file a kind."""

from segtrain.build.data import (
    build_data,
    build_labels,
    build_reader,
    build_source,
    complete_classes,
    weigh_classes,
)
from segtrain.build.network import build_loss, build_model, build_module
from segtrain.build.trainer import build_callbacks, build_logger, build_trainer

__all__ = [
    "build_callbacks",
    "build_data",
    "build_labels",
    "build_logger",
    "build_loss",
    "build_model",
    "build_module",
    "build_reader",
    "build_source",
    "build_trainer",
    "complete_classes",
    "weigh_classes",
]
