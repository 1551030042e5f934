"""history.png, importance.png and front.png: a search as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segtrain.results.labels import short_labels
from segtrain.results.pareto import pareto_front
from segtrain.run_folder import replace
from segtrain.sweep.history import Past
from segtrain.sweep.importance import Importance

BLUE, ORANGE, GREY, RED = "#1f77b4", "#ff7f0e", "#8c8c8c", "#d62728"
UNITS = {"perf/images_per_second": "images/s"}
FAR = 5  # pruned trials are drawn no further from complete ones than so many times the spread of these
WIDE = 100  # the ratio of largest to smallest above which an axis is logarithmic


def draw_history(path: Path, past: Sequence[Past], objectives: Mapping[str, str], *, title: str) -> None:
    """Draw the objectives of every trial and the best until then, a panel an objective."""
    figure = _figure(8, 1 + 3.2 * len(objectives))
    axes = figure.subplots(len(objectives), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, mode) in zip(axes, objectives.items(), strict=True):
        _draw_objective(axis, past, name, mode, pruned=len(objectives) == 1)
    axes[-1].set_xlabel("trial")
    axes[0].set_title(title, loc="left", fontsize=11)
    _save(figure, path)


def _draw_objective(axis: Any, past: Sequence[Past], name: str, mode: str, *, pruned: bool) -> None:
    complete = [(trial.number, trial.values[name]) for trial in past if name in trial.values]
    best = [(trial.number, trial.best[name]) for trial in past if name in trial.best]
    if complete:
        axis.plot(*zip(*complete, strict=True), "o", color=BLUE, markersize=5, label="complete")
    if best:
        word = "highest" if mode == "max" else "lowest"
        axis.step(*zip(*best, strict=True), where="post", color=ORANGE, linewidth=1.8, label=f"{word} so far", zorder=1)
    ended = [(t.number, t.last[1]) for t in past if t.state == "pruned" and t.last is not None] if pruned else []
    if ended:
        near, label = _near([score for _, score in ended], [value for _, value in complete])
        axis.plot([number for number, _ in ended], near, "x", color=GREY, markersize=6, label=label)
    failed = [trial.number for trial in past if trial.state == "failed"]
    if failed:  # on the lower edge, as they have no score
        axis.plot(
            failed,
            [0.0] * len(failed),
            "^",
            color=RED,
            markersize=7,
            clip_on=False,
            transform=axis.get_xaxis_transform(),
            label="failed",
        )
    _scale(axis.set_yscale, [value for _, value in complete])
    axis.set_ylabel(_label(name))
    axis.margins(x=0.03, y=0.1)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _near(scores: Sequence[float], complete: Sequence[float]) -> tuple[list[float], str]:
    """Return where scores of pruned trials are drawn, so that those of complete ones can be told apart; and what of."""
    label, spread = "pruned, at its last score", max(complete, default=0.0) - min(complete, default=0.0)
    if spread == 0:
        return list(scores), label
    low, high = min(complete) - FAR * spread, max(complete) + FAR * spread
    near = [min(max(score, low), high) for score in scores]
    return near, label if near == list(scores) else f"{label}\n(far ones drawn nearer)"


def draw_importance(path: Path, found: Sequence[Importance]) -> None:
    """Draw the share of the variance that each parameter explains, a panel for each objective and condition."""
    rows = [len(one.shares) + (3 if one.where else 2) for one in found]  # and those of its title
    figure = _figure(7, 0.42 * sum(rows) + 0.7)
    axes = figure.subplots(len(found), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    for axis, one in zip(axes, found, strict=True):
        parameters = sorted(one.shares, key=lambda key: one.shares[key])
        labels = short_labels(parameters)
        bars = axis.barh([labels[key] for key in parameters], [one.shares[key] for key in parameters], color=BLUE)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
        title = f"importance for {_label(one.objective)} ({one.trials} completed trials)"
        where = f"\nwhere {one.where}" if one.where else ""
        axis.set_title(title + where, loc="left", fontsize=11)
        axis.set_xlim(0, 1.08)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    axes[-1].set_xlabel("share of the explained variance (fANOVA)")
    _save(figure, path)


def draw_front(path: Path, past: Sequence[Past], objectives: Mapping[str, str], *, title: str) -> None:
    """Draw two objectives against each other, with the Pareto front."""
    across, up = objectives
    complete = [trial for trial in past if objectives.keys() <= trial.values.keys()]
    on_front = pareto_front([trial.values for trial in complete], objectives)
    front = sorted(
        (trial.values[across], trial.values[up], trial.number)
        for trial, on in zip(complete, on_front, strict=True)
        if on
    )
    figure = _figure(7, 5)
    axis = figure.subplots()
    others = [(t.values[across], t.values[up]) for t, on in zip(complete, on_front, strict=True) if not on]
    if others:
        axis.plot(*zip(*others, strict=True), "o", color=GREY, markersize=5, label="other trials")
    axis.plot([p[0] for p in front], [p[1] for p in front], "o:", color=ORANGE, label="Pareto front", zorder=3)
    for x, y, number in front:
        axis.annotate(f"{number}", (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
    _scale(axis.set_xscale, [trial.values[across] for trial in complete])
    _scale(axis.set_yscale, [trial.values[up] for trial in complete])
    words = {"max": "higher is better", "min": "lower is better"}
    axis.set_xlabel(f"{_label(across)} ({words[objectives[across]]})")
    axis.set_ylabel(f"{_label(up)} ({words[objectives[up]]})")
    axis.set_title(f"{title} (numbers are trials)", loc="left", fontsize=11)
    axis.margins(0.1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _label(name: str) -> str:
    return UNITS.get(name, name)


def _scale(set_scale: Any, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) / min(values) > WIDE:
        set_scale("log")


def _save(figure: Figure, path: Path) -> None:
    replace(path, lambda part: figure.savefig(part, format="png"))
