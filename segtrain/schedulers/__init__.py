"""Learning-rate schedules, and how long a run's is."""

from segtrain.schedulers.curves import WSDLR, ConstantLR, CosineLR, MultiStepLR, PolyLR, WarmupLR
from segtrain.schedulers.length import schedule_length
from segtrain.schedulers.one_cycle import OneCycleLR
from segtrain.schedulers.plateau import PlateauLR
from segtrain.schedulers.validation import validation_interval

__all__ = [
    "WSDLR",
    "ConstantLR",
    "CosineLR",
    "MultiStepLR",
    "OneCycleLR",
    "PlateauLR",
    "PolyLR",
    "WarmupLR",
    "schedule_length",
    "validation_interval",
]
