"""Optimizers that torch does not have, or not for convolutions."""

from segtrain.optimizers.lion import Lion
from segtrain.optimizers.muon import Muon

__all__ = ["Lion", "Muon"]
