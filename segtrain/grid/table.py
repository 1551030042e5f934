"""What a grid says when it ends: all jobs, best first, why some are not complete, and what to do next."""

import math
import os
import shlex
from pathlib import Path

from rich import box
from rich.table import Table

from segtrain.grid.command import way_on
from segtrain.grid.record import JOBS, Job
from segtrain.states import COMPLETE, FAILED, LOST, NOT_RUN, STOPPED

WORDS = {COMPLETE: "done"}


def finish_grid() -> int:
    """Print the table of the jobs of this process's grid, if it has any, and return how many are not complete."""
    if not JOBS:
        return 0
    from segtrain.summary import render

    order = best_first(JOBS)
    names = list(dict.fromkeys(job.monitor for job in JOBS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("job", "status", *names, "what differs"):
        table.add_column(column, overflow="fold")
    for job in order:
        score = job.score()
        cells = ["" if score is None or name != job.monitor else f"{score:.4f}" for name in names]
        table.add_row(job.folder.name, WORDS.get(job.state, job.state), *cells, " ".join(job.differs))
    print(f"{render(table)}\n\nsweep folder {JOBS[0].folder.parent}")
    _print_unfinished()
    if order[0].score() is not None:
        _print_winner()
    return sum(job.state in (FAILED, LOST, STOPPED) for job in JOBS)


def best_first(jobs: list[Job]) -> list[Job]:
    """Return jobs by their score, those without one last."""

    def rank(job: Job) -> float:
        score = job.score()
        if score is None or math.isnan(score):
            return math.inf
        return -score if job.mode == "max" else score

    return sorted(jobs, key=rank)


def _print_winner() -> None:
    """Say how to go on with the best setting, which is the one that `segtrain results` names."""
    from segtrain.results.collect import collect
    from segtrain.results.rows import make_results
    from segtrain.results.winner import advice

    folders = {job.folder.parent for job in JOBS}
    if len(folders) > 1:  # the one that has them all may have other grids too
        print(f"compare them by: {shlex.join(['segtrain', 'results', os.path.commonpath(folders)])}")
        return
    results = make_results(collect(Path(folders.pop())))
    if (winner := results.winner) is not None:
        names = ", ".join(run.folder.name for run in winner.group.complete)
        jobs = f"the mean of jobs {names}" if "," in names else f"job {names}"
        title = f"best {results.metric} {winner.scores[results.metric].mean:.4f} ({jobs})"
        print("\n".join(advice(winner, results.collection, title=title)))


def _print_unfinished() -> None:
    """Say of every job that is not complete why, and the command that goes on with it."""
    for job in JOBS:
        if job.state in (COMPLETE, NOT_RUN):
            continue
        log = job.console or job.folder / "train.log"
        where = f" (see {log})" if log.is_file() else ""
        print(f"job {job.folder.name} {job.state}: {job.reason.splitlines()[0] if job.reason else '?'}{where}")
    if unfinished := [job for job in JOBS if job.state != COMPLETE]:
        print("to go on with those that are not done, one by one (a failed one with its cause mended):")
        for job in unfinished:
            print(f"  {way_on(job)}")
