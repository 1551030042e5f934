"""The any-size path, and prediction on files."""

from segtrain.inference.any_size import AnySize

__all__ = ["AnySize"]
