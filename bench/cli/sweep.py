"""`plcbench sweep`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live as LiveDisplay

from bench.analysis.verdict import Outcome
from bench.cli.options import console, database_option, result_option
from bench.report.sweep_live import duration, live_table
from bench.report.sweep_table import cell_line, sweep_table
from bench.results import result_path
from bench.sweep.cell import Trial
from bench.sweep.estimate import Remaining, longest_of_all_s, longest_s
from bench.sweep.live import Live
from bench.sweep.measured import Cell
from bench.sweep.plan import SweepSpec, load_sweep, with_repositories
from bench.sweep.resume import Earlier, load_earlier, newest_of, refuse_unfinished
from bench.sweep.run import Watcher, run_sweep
from bench.sweep.trial import DRAIN_S
from logger.database import mapped_errors
from plcsim.errors import InputError


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--a", help="Arm that replaces the first repository of the plan; with --b.")
@click.option("--b", help="Arm that replaces the second one.")
@click.option("--dry-run", is_flag=True, help="Print the cells and the longest time they take; run nothing.")
@click.option("--resume", is_flag=True, help="Go on with --json FILE, or the newest result of this plan.")
@database_option
@result_option
def sweep(
    plan: Path,
    a: str | None,
    b: str | None,
    dry_run: bool,
    resume: bool,
    url: str | None,
    json_path: Path | None,
) -> int:
    """Run every cell of a grid that PLAN spans over the conditions of a trial, in an order drawn by its seed.

    Each cell is verified, and on disk before the next one begins. Ctrl-C keeps what there is.

    Exit code 0: all cells ran; 1: one failed; 5: one violated an invariant.

    Example: plcbench sweep configs/bench/sweep.yaml
    """
    spec = load_sweep(plan)
    if a or b:
        if not (a and b):
            raise InputError("--a and --b name the two arms of a sweep together")
        spec = with_repositories(spec, [a, b])
    out = console()
    trials = spec.trials()
    if dry_run:
        _print_plan(spec, _left(trials, load_earlier(spec, json_path or newest_of(spec)) if resume else None),
                    out)  # fmt: skip
        return 0
    earlier, path = _where(spec, resume, json_path)
    left = _left(trials, earlier)
    done = len(trials) - len(left)
    out.print(
        f"{_count(len(left), 'run')}{f', {done} are done' if done else ''}, at most "
        f"{duration(longest_of_all_s(left, DRAIN_S))}, on "
        f"{'the given database' if url else 'a PostgreSQL of its own, removed after'}; "
        f"after each one the result is in {path}",
        highlight=False,
        soft_wrap=True,
    )
    cells: list[Cell] = []
    try:
        with mapped_errors(), _watched(trials, cells, out) as watcher:
            cells = run_sweep(spec, url, path, watcher=watcher, earlier=earlier)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or SIGTERM
        if cells:
            _print_cells(cells, path, out)
            arms = f" --a {shlex.quote(a)} --b {shlex.quote(b)}" if a and b else ""
            where = ", with the same --database" if url else ""
            out.print(
                f"stopped; plcbench sweep {shlex.quote(str(plan))}{arms} --resume "
                f"--json {shlex.quote(str(path))} goes on{where}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        raise
    _print_cells(cells, path, out)
    if any(cell.result and cell.result.violations for cell in cells):
        return Outcome.INVALID.exit_code
    return 1 if any(cell.error for cell in cells) else 0


def _left(trials: Sequence[Trial], earlier: Earlier | None) -> list[Trial]:
    """What is to be run, in its order: not only the last ones, for what failed is run again."""
    done = {result.trial for result, _ in earlier.done(trials)} if earlier else set()
    return [trial for trial in trials if trial not in done]


def _where(spec: SweepSpec, resume: bool, json_path: Path | None) -> tuple[Earlier | None, Path]:
    """The result to go on with, if so, and where the result goes."""
    if not resume:
        if json_path is not None:
            refuse_unfinished(json_path)
        return None, result_path("sweep", json_path)
    path = json_path or newest_of(spec)
    earlier = load_earlier(spec, path)
    return earlier, result_path("sweep", path)


def _print_plan(spec: SweepSpec, trials: Sequence[Trial], out: Console) -> None:
    for trial in trials:
        seconds = duration(longest_s(trial, DRAIN_S))
        out.print(f"{trial}: at most {seconds}", highlight=False, soft_wrap=True)
    total = duration(longest_of_all_s(trials, DRAIN_S))
    out.print(
        f"{_count(spec.count(), 'cell')}, {_count(len(trials), 'run')} in this order, at most {total} in all;"
        " nothing was run",
        highlight=False,
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _print_cells(cells: Sequence[Cell], path: Path, out: Console) -> None:
    if cells:
        out.print(sweep_table(cells).to_rich())
    for cell in cells:
        if cell.error:
            out.print(cell_line(cell), highlight=False, soft_wrap=True, markup=False)
        for why in cell.result.doubts if cell.result else ():
            out.print(f"{cell.trial}: {why}", highlight=False, soft_wrap=True, markup=False)
    out.print(f"result: {path}", highlight=False, soft_wrap=True)


@contextmanager
def _watched(trials: Sequence[Trial], cells: list[Cell], out: Console) -> Iterator[Watcher]:
    """A live table on a terminal, a line for each cell in a pipe; `cells` receives them as they end."""
    remaining = Remaining(trials, DRAIN_S)

    def ended(cell: Cell) -> None:
        cells.append(cell)
        remaining.ran(cell.trial, cell.seconds)

    if not out.is_terminal:

        def say(cell: Cell) -> None:
            ended(cell)
            left = f"about {duration(remaining.seconds())} left"
            out.print(
                f"{len(cells)}/{len(trials)} {cell_line(cell)}; {left}", highlight=False, soft_wrap=True
            )

        yield Watcher(on_cell=say, on_earlier=ended)
        return
    begun = [0.0]
    with LiveDisplay(console=out, refresh_per_second=2, transient=True) as display:

        def begin(trial: Trial) -> None:
            begun[0] = time.monotonic()
            show(trial, Live())

        def show(trial: Trial | None, live: Live) -> None:
            left = len(trials) - len(cells) - (trial is not None)
            eta_s = remaining.seconds(time.monotonic() - begun[0] if trial else 0.0)
            display.update(live_table(cells, trial, live, left, eta_s))

        def end(cell: Cell) -> None:
            ended(cell)
            show(None, Live())

        yield Watcher(begin, show, end, ended)
