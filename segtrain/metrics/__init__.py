"""Scores: one confusion matrix over the data set, and what is read off it."""

from segtrain.metrics.confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
