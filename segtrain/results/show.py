"""What `segtrain results` says: the table, what ended otherwise, a test between two settings, and the next commands."""

import sys
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path

from segtrain.errors import UserError
from segtrain.results.collect import Group
from segtrain.results.rows import Results, Row
from segtrain.results.runs import Run, name_of
from segtrain.results.statistics import paired_test, verdict
from segtrain.results.table import csv_text, in_ascii, markdown_text, terminal_text, unique_lines
from segtrain.results.winner import advice, front_advice
from segtrain.states import COMPLETE, STATES

MOST_NOTES = 20  # lines on runs that are not complete


def results_text(
    results: Results,
    *,
    form: str = "table",
    width: int = 120,
    compare: tuple[int, int] | None = None,
    encoding: str | None = None,
) -> str:
    """Return the results as text.

    Args:
        results: what there is.
        form: table (with all that is to be said of it), csv or md (which are the table alone).
        width: of the terminal, in characters.
        compare: the numbers of two rows; None for the winner and the next best with as many seeds.
        encoding: in which it will be written; None for that of stdout.

    Raises:
        UserError: if there is no such row, or two of them are the same.
    """
    encoding = encoding or sys.stdout.encoding or "utf-8"
    if form != "table":
        if compare is not None:
            raise UserError(f"--compare: a sentence, and --format {form} is a table alone; leave one out")
        return csv_text(results) if form == "csv" else in_ascii(markdown_text(results), encoding)
    table, dropped = terminal_text(results, width=width)
    blocks = [[table, *([f"no room for: {', '.join(dropped)} (--format csv has all)"] if dropped else [])]]
    blocks.append([_summary(results), *unique_lines(list(_notes(results)), most=MOST_NOTES)])
    blocks.append([_comparison(results, compare)])
    front = sorted((row for row in results.rows if row.front), key=lambda row: row.number)
    if front:
        names = ", ".join(f"{name} ({mode})" for name, mode in results.collection.objectives.items())
        title = f"* the Pareto front of {names}: no other row is as good in all of them and better in one"
        blocks.append([title, *front_advice(front, results.collection)])
    elif (winner := results.winner) is not None:
        title = f"best {results.metric}: row {winner.number}{_passed_over(results)}"
        blocks.append(advice(winner, results.collection, title=title))
    text = "\n\n".join(text for block in blocks if (text := "\n".join(line for line in block if line)))
    return in_ascii(text, encoding)


def _passed_over(results: Results) -> str:
    """Return what there is to say of a row whose mean is better than the winner's, but is one of fewer seeds."""
    first, winner = results.best_first()[0], results.winner
    if winner is None or first is winner:
        return ""
    few, all_of_them = (row.scores[results.metric].count for row in (first, winner))
    return f" (row {first.number} has a better mean, but of {few} {'seed' if few == 1 else 'seeds'}, not {all_of_them})"


def _summary(results: Results) -> str:
    states = [run.status for row in results.rows for run in [*_units(row.group), *row.group.repeats]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    settings, trained = len(results.rows), sum(len(row.group.runs) + len(row.group.repeats) for row in results.rows)
    return f"{_plural(settings, 'setting')}, {_plural(trained, 'run')}; {counts}"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _units(group: Group) -> list[Run | Group]:
    """Return what ends by itself: a trial as a whole, or each run of a grid."""
    return [group] if group.parameters or not group.runs else list(group.runs)


def _notes(results: Results) -> Iterator[str]:
    for row in results.rows:
        for unit in _units(row.group):
            if unit.status == COMPLETE:
                continue
            run = unit if isinstance(unit, Run) else next(reversed(unit.runs), None)
            facts = [fact for fact in (_progress(run, results), " ".join(unit.reason.split())) if fact]
            log = _log(unit.folder if run is None else run.folder)
            name = row.group.name if isinstance(unit, Group) else name_of(unit.folder)
            yield f"{name} {unit.status}{': ' if facts else ''}{'; '.join(facts)}{f' ({log})' if log else ''}"
        for run in row.group.repeats:
            counted = next(name_of(other.folder) for other in row.group.runs if other.seed == run.seed)
            name = name_of(run.folder)
            yield f"{name} {run.status}, not counted: {counted} has the same settings and seed {run.seed}"


def _progress(run: Run | None, results: Results) -> str:
    """Return how far a run came, and its best score until then."""
    if run is None or not run.history:
        return ""
    metric = next(iter(results.collection.objectives))
    best = min if results.collection.objectives[metric] == "min" else max
    scores = [values[metric] for _, values in run.history if metric in values]
    return f"{run.history[-1][0] + 1} epochs" + (f", best {metric} {best(scores):.4f}" if scores else "")


def _log(folder: Path) -> Path | None:
    return next((folder / name for name in ("train.log", "console.log") if isfile(folder / name)), None)


def _comparison(results: Results, compare: tuple[int, int] | None) -> str:
    """Return the paired test of two rows; if none were asked for, of the winner and its rival, over several seeds."""
    if compare is None:
        best, winner = results.best_first(), results.winner
        if winner is None or len(best) < 2 or winner.scores[results.metric].count < 2:
            return ""
        # the best of those with as many seeds as the winner; if it alone has so many, of those with the most
        rival = max((row for row in best if row is not winner), key=lambda row: row.scores[results.metric].count)
        first, second = (row for row in best if row is winner or row is rival)
        return _test(first, second, results.metric)
    for number in compare:
        if not 1 <= number <= len(results.rows):
            raise UserError(f"--compare {number}: no such row (1 to {len(results.rows)}, in the order of this table)")
    if compare[0] == compare[1]:
        raise UserError(f"--compare {compare[0]} {compare[1]}: a row and itself; give two")
    first, second = (results.rows[number - 1] for number in compare)
    return _test(first, second, results.metric)


def _test(first: Row, second: Row, metric: str) -> str:
    one, other = first.by_seed(metric), second.by_seed(metric)
    names = (f"row {first.number}", f"row {second.number}")
    return verdict(paired_test(one, other), metric=metric, names=names, common=len(one.keys() & other.keys()))
