"""Options and outputs that several commands of `plcbench` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

OnProgress = Callable[[str, float], None]
"""Called with what is being done and how many seconds of the plan that was."""

database_option = click.option(
    "--database",
    "url",
    envvar="PLCSIM_DATABASE",
    help="postgresql:// URL, also read from PLCSIM_DATABASE.  [default: an embedded PostgreSQL]",
)
result_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the result.  [default: a new one in ./plcbench-results]",
)


def console() -> Console:
    """As wide as the terminal; in a pipe wide enough that no line of ours is folded.

    Text stays what it is: names of files and messages of servers hold brackets, which rich takes for markup.
    """
    return Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)


@contextmanager
def progress_on(console: Console, total: float) -> Iterator[OnProgress]:
    """A bar on a terminal, a line whenever something new begins in a pipe."""
    if not console.is_terminal:
        seen: set[str] = set()

        def say(what: str, seconds: float) -> None:
            if what not in seen:
                seen.add(what)
                print(f"… {what}", flush=True)  # noqa: T201 - this is the command line

        yield say
        return
    columns = (TextColumn("{task.description:>20}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("warm-up", total=total)
        yield lambda what, seconds: bar.update(task, advance=seconds, description=what)
