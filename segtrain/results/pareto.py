"""Which of several settings are on the Pareto front: no other is as good in all objectives and better in one?"""

from collections.abc import Mapping, Sequence


def pareto_front(points: Sequence[Mapping[str, float] | None], objectives: Mapping[str, str]) -> list[bool]:
    """Say of each point whether it is on the front; one without all objectives is not.

    Args:
        points: {objective: value}.
        objectives: {objective: "max" or "min"}.
    """
    signs = {name: -1.0 if mode == "max" else 1.0 for name, mode in objectives.items()}
    costs = [
        tuple(sign * point[name] for name, sign in signs.items())
        if point is not None and signs.keys() <= point.keys()
        else None
        for point in points
    ]
    return [
        cost is not None and not any(_dominates(other, cost) for other in costs if other is not None) for cost in costs
    ]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
