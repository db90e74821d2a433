"""`plcbench report`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.compare.stored import load_stored, whole
from bench.report.markdown import markdown_of
from bench.results import is_result
from plcsim.errors import InputError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the report.  [default: stdout]",
)
def report(run: Path, output: Path | None) -> int:
    """Write a stored result (quick, suite, stress, sweep, replay) as Markdown. Nothing is measured.

    Example: plcbench report plcbench-results/suite-1.json --output report.md
    """
    stored = load_stored(run)
    with whole(stored):
        text = markdown_of(stored.content)
    if output is None:
        click.echo(text, nl=False)
        return 0
    if is_result(output):
        raise InputError(f"{output}: is a result of plcbench, which the report would overwrite")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InputError(f"{output}: cannot be written: {exc.strerror}") from exc
    click.echo(f"report: {output}")
    return 0
