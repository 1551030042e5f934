"""Losses: pure functions of logits and mask, each with a thin module."""

from segtrain.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from segtrain.losses.boundary import BoundaryLoss
from segtrain.losses.cross_entropy import CrossEntropyLoss
from segtrain.losses.dice import DiceLoss
from segtrain.losses.focal import FocalLoss
from segtrain.losses.jaccard import JaccardLoss
from segtrain.losses.lovasz import LovaszLoss
from segtrain.losses.ohem import OhemLoss
from segtrain.losses.tversky import TverskyLoss
from segtrain.losses.weighted_sum import WeightedSum

__all__ = [
    "BinaryCrossEntropyLoss",
    "BoundaryLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LovaszLoss",
    "OhemLoss",
    "TverskyLoss",
    "WeightedSum",
]
