"""The rows of the results: settings with their scores, in the order of a metric or a parameter."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segtrain.config.suggest import did_you_mean, listed
from segtrain.errors import UserError
from segtrain.results.collect import Collection, Group
from segtrain.results.flat import Value
from segtrain.results.labels import short_labels
from segtrain.results.pareto import pareto_front
from segtrain.results.settings import columns
from segtrain.results.statistics import Score, score_of
from segtrain.states import COMPLETE, STATES

LESS_IS_BETTER = re.compile(r"loss|latency|memory|parameters|gflops|seconds|(^|[/_])(time|ms)($|[/_])|wait")
FACTS = ("seconds", "status", "run", "n")  # of a row beside settings and scores


@dataclass(frozen=True)
class Row:
    """A setting.

    Attributes:
        number: in the table, from 1.
        group: its runs.
        settings: what differs from other settings.
        scores: of the runs that are complete.
        front: it is on the Pareto front, of several objectives.
    """

    number: int
    group: Group
    settings: Mapping[str, Value | None]
    scores: Mapping[str, Score]
    front: bool = False

    def count(self, metric: str) -> int:
        """Return over how many complete runs a mean is; what the search alone says is over all."""
        runs = self.group.complete
        return sum(metric in run.metrics for run in runs) or (len(runs) if metric in self.scores else 0)

    def has_gaps(self, metric: str) -> bool:
        """Say whether a metric has a mean, but not over all complete runs; a class may be absent in some."""
        return metric in self.scores and self.count(metric) < len(self.group.complete)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return a metric of every complete run by its seed."""
        runs = self.group.complete
        return {run.seed: run.metrics[metric] for run in runs if run.seed is not None and metric in run.metrics}


@dataclass(frozen=True)
class Results:
    """What there is to show.

    Attributes:
        collection: where it comes from.
        rows: in order, those without a score last.
        key: by which they are ordered.
        ascending: the smallest first.
        metric: by which the winner is chosen, and settings are compared: the first objective, or `key` if it is a
            score of the validation split.
    """

    collection: Collection
    rows: tuple[Row, ...]
    key: str
    ascending: bool
    metric: str

    @property
    def metrics(self) -> list[str]:
        """All metrics of any run."""
        return list(dict.fromkeys(name for row in self.rows for name in row.scores))

    @property
    def counted(self) -> str | None:
        """The metric whose runs the table counts: by which it is ordered, or the winner is chosen, if there is one."""
        return next((name for name in (self.key, self.metric) if name in self.metrics), None)

    @property
    def winner(self) -> Row | None:
        """The best row of those that have the most seeds: one seed that was lucky is no winner over a mean.

        None if no row has a score. A trial without run folders here is as the search counts it: over all its seeds.
        """
        rows = self.best_first()
        most = max((row.scores[self.metric].count for row in rows), default=0)
        return next((row for row in rows if not row.group.runs or row.scores[self.metric].count == most), None)

    def best_first(self) -> list[Row]:
        """Return the rows with a score of the metric, the best first."""
        sign = 1 if lower_is_better(self.metric, self.collection) else -1
        scored = [row for row in self.rows if row.group.status == COMPLETE and self.metric in row.scores]
        return sorted(scored, key=lambda row: sign * row.scores[self.metric].mean)


def make_results(collection: Collection, *, sort: str | None = None, ascending: bool | None = None) -> Results:
    """Return the rows of a collection in order.

    Args:
        collection: the runs.
        sort: a metric, a setting that differs, or one of `FACTS`; None for the first objective.
        ascending: the smallest first; None for what suits the key: the best scores first, parameters as they rise.

    Raises:
        UserError: if there is no such key.
    """
    groups = collection.groups
    settings = columns(groups)
    scores = [_scores(group) for group in groups]
    metrics = list(dict.fromkeys(name for found in scores for name in found))
    objectives = collection.objectives
    default = next(iter(objectives))
    by_label = {label: name for name, label in short_labels(settings).items()}
    key = by_label.get(sort or default, sort or default)
    if sort is not None and key not in (*metrics, *settings, *FACTS, *objectives):
        known = [*objectives, *settings, *metrics, *FACTS]
        raise UserError(
            f"--sort {sort}: no run has it.{did_you_mean(sort, known)} (has: {listed(list(dict.fromkeys(known)))})"
        )
    if ascending is None:
        ascending = key not in (*metrics, *objectives) or lower_is_better(key, collection)
    points = [{name: score.mean for name, score in found.items()} for found in scores]
    complete = [point if group.status == COMPLETE else None for point, group in zip(points, groups, strict=True)]
    front = pareto_front(complete, objectives) if len(objectives) > 1 else [False] * len(groups)
    rows = [
        Row(0, group, {name: values[index] for name, values in settings.items()}, scores[index], front[index])
        for index, group in enumerate(groups)
    ]
    ordered = _ordered(rows, key, ascending=ascending)
    chosen = key if key in metrics and key.startswith("val/") else default
    return Results(
        collection,
        tuple(Row(i, r.group, r.settings, r.scores, r.front) for i, r in enumerate(ordered, 1)),
        key,
        ascending,
        chosen,
    )


def lower_is_better(key: str, collection: Collection) -> bool:
    """Say in which direction a metric is better: as the search says, or by its name."""
    if key in collection.objectives:
        return collection.objectives[key] == "min"
    return LESS_IS_BETTER.search(key) is not None


def _scores(group: Group) -> dict[str, Score]:
    names = dict.fromkeys(name for run in group.complete for name in run.metrics if name not in ("epoch", "step"))
    values = {name: [run.metrics[name] for run in group.complete if name in run.metrics] for name in names}
    found = {name: score_of(numbers) for name, numbers in values.items()}
    found |= {name: score_of([value]) for name, value in group.values.items() if name not in found}
    return {name: score for name, score in found.items() if score is not None}


def _ordered(rows: Sequence[Row], key: str, *, ascending: bool) -> list[Row]:
    """Sort numbers before texts, and rows that have no value last, by how they ended."""

    def value(row: Row) -> Value | None:
        if key in row.scores:
            return row.scores[key].mean
        facts: dict[str, Value | None] = {
            "seconds": row.group.seconds,
            "status": row.group.status,
            "run": row.group.name,
            "n": len(row.group.runs),
        }
        return row.settings.get(key, facts.get(key))

    have = [row for row in rows if _has(value(row))]
    numeric = [row for row in have if isinstance(value(row), int | float)]
    texts = [row for row in have if not isinstance(value(row), int | float)]
    numeric.sort(key=lambda row: float(value(row) or 0), reverse=not ascending)
    texts.sort(key=lambda row: str(value(row)), reverse=not ascending)
    rest = [row for row in rows if not _has(value(row))]
    return [*numeric, *texts, *sorted(rest, key=lambda row: STATES.index(row.group.status))]


def _has(value: Value | None) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
