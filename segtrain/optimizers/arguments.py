"""Are an optimizer's arguments in their ranges?"""

from collections.abc import Sequence


def check_at_least_zero(**values: float) -> None:
    """Raise ValueError for a value below zero, by its name."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name}: {value} is negative; give 0 or more")


def check_below_one(**values: Sequence[float]) -> None:
    """Raise ValueError if one of the two averages of a name is not in [0, 1)."""
    for name, pair in values.items():
        if len(pair) != 2 or not all(0 <= value < 1 for value in pair):
            raise ValueError(f"{name}: {list(pair)} is not two numbers in [0, 1)")
