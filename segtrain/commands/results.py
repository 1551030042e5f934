"""Show what came of the runs in a folder: what differed, scores over seeds, cost, failures, and the winner."""

import argparse
import os
import shutil
import sys
from pathlib import Path

EPILOG = """\
FOLDER is that of a search (outputs/sweeps/STUDY), of a grid (outputs/sweeps/NAME-ID), or any that has run folders below
it (outputs/runs). Runs that differ in their seed alone are one row: mean +- standard deviation over n seeds. Scores are
those of metrics.json; the winner is chosen by validation, never by cost or the test split, and among the settings that
have the most seeds. Of runs with the same settings and seed the last complete one counts.
"""
ENCODING = "utf-8"  # of --output


def main() -> None:
    """Print the table, or write it to a file."""
    parser = argparse.ArgumentParser(
        prog="segtrain results",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="with the runs")
    parser.add_argument("--sort", metavar="KEY", help="a metric or a setting (default: the objective; best first)")
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--ascending", action="store_true", default=None, help="the smallest first")
    order.add_argument("--descending", dest="ascending", action="store_false", help="the largest first")
    parser.add_argument(
        "--format", choices=("table", "csv", "md"), default="table", help="csv has all metrics and digits"
    )
    parser.add_argument("--compare", nargs=2, type=int, metavar=("A", "B"), help="paired t-test of two rows over seeds")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write there instead of printing")
    arguments = parser.parse_args()

    from segtrain.errors import UserError, fail
    from segtrain.results.collect import collect
    from segtrain.results.rows import make_results
    from segtrain.results.show import results_text

    at_terminal = sys.stdout.isatty() and arguments.output is None
    width = shutil.get_terminal_size().columns if at_terminal or "COLUMNS" in os.environ else 160
    try:
        results = make_results(collect(arguments.folder), sort=arguments.sort, ascending=arguments.ascending)
        compare = None if arguments.compare is None else (arguments.compare[0], arguments.compare[1])
        encoding = None if arguments.output is None else ENCODING
        text = results_text(results, form=arguments.format, width=width, compare=compare, encoding=encoding)
        if arguments.output is not None:
            write(arguments.output, text)
    except UserError as error:
        fail(str(error))
    if arguments.output is None:
        show(text)


def show(text: str) -> None:
    """Print a text; a character that the terminal's encoding does not have is escaped."""
    from segtrain.errors import fail

    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            print(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest again at its end
        if not isinstance(error, BrokenPipeError):  # into `head`
            fail(f"stdout: cannot write the results ({error.strerror}); free some space or give --output FILE")


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        UserError: if it cannot be written.
    """
    from segtrain.errors import UserError

    try:
        path.write_text(f"{text}\n", encoding=ENCODING, errors="surrogateescape")  # a folder's name may be no text
    except OSError as error:
        raise UserError(f"--output: cannot write {path} ({error.strerror})") from error


if __name__ == "__main__":
    main()
