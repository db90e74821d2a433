"""`plcbench compare`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from bench.analysis.compare import MARGIN
from bench.cli.options import console
from bench.compare.run import Compared, compare_results
from bench.compare.stored import NOT_WHOLE, Stored, load_stored, whole
from bench.report.compare_text import print_compared


def _number(context: click.Context, parameter: click.Parameter, margin: float) -> float:
    if math.isnan(margin):  # which lies in any range
        raise click.BadParameter("nan is not a number", context, parameter)
    return margin


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, max_open=True),
    default=MARGIN,
    show_default=True,
    callback=_number,
    help="A change within this share (or points of a share) is no difference.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="NAME",
    help="A difference of the conditions that is the question itself, as the refusal names it; all: show "
    "everything side by side, absolute figures marked as not comparable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(a: Path, b: Path, margin: float, accept: tuple[str, ...], as_json: bool) -> int:
    """Is run B better or worse than run A, no different, or can nobody tell? Nothing is measured.

    A and B are results of one kind. Refused if machine, server or its settings differ.
    Exit code 0: no headline figure is worse; 3: one is; 4: of one nobody can tell; 5: a run is invalid.

    Example: plcbench compare plcbench-results/quick-1.json plcbench-results/quick-2.json
    """
    before, after = load_stored(a), load_stored(b)
    compared = _compared(before, after, margin, accept)
    if as_json:
        click.echo(json.dumps(compared.to_json(), indent=1, allow_nan=False))
    else:
        print_compared(compared, console())
    return compared.outcome.exit_code


def _compared(a: Stored, b: Stored, margin: float, accept: tuple[str, ...]) -> Compared:
    """Compare; a result that is not whole is named."""
    try:
        return compare_results(a, b, margin, accept)
    except NOT_WHOLE:
        for each in (a, b):
            with whole(each):
                compare_results(each, each, margin)
        with whole(a, b):
            raise
