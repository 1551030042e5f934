"""Losses: pure functions of logits and mask, each with a thin module."""

from segtrain.losses.cross_entropy import CrossEntropyLoss
from segtrain.losses.dice import DiceLoss
from segtrain.losses.weighted_sum import WeightedSum

__all__ = ["CrossEntropyLoss", "DiceLoss", "WeightedSum"]
