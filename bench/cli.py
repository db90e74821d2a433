"""The `plcbench` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.demo import INTERVAL_S, LOGGED_S, demo_device, log_and_verify
from bench.machine import FEWEST_PARAMETERS
from bench.plan import load_sweep
from bench.quick import Progress as OnProgress
from bench.quick import planned_seconds, run_quick
from bench.quick_result import QuickResult, QuickSettings
from bench.report.sweep_table import cell_line, sweep_table
from bench.report.text import print_quick
from bench.report.verification import verification_table
from bench.results import result_path, write_result
from bench.sweep import SECONDS_A_CELL, run_sweep
from bench.verdict import Outcome
from bench.verify import verify as verify_schema
from logger.database import DEFAULT_SCHEMA, connect, database, mapped_errors, require_schema
from logger.repositories import REPOSITORIES
from plcsim.command import Seconds, run_command
from plcsim.write_journal import read_last_epochs
from plcsim.writes import Write

_ARM = click.Choice(sorted(REPOSITORIES))
_database_option = click.option(
    "--database",
    "url",
    envvar="PLCSIM_DATABASE",
    help="postgresql:// URL, also read from PLCSIM_DATABASE.  [default: an embedded PostgreSQL]",
)
_result_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the result.  [default: a new one in ./plcbench-results]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure what keeping current values in step with history costs, and whether the data is right.

    Exit codes: 0 pass, 1 run error, 2 usage or configuration, 3 target missed, 4 inconclusive,
    5 invalid measurement or violated invariant.

    Example: plcbench quick --parameters 84 --duration 30
    """


@cli.command()
@click.option(
    "--parameters",
    type=click.IntRange(FEWEST_PARAMETERS, 5000),
    default=84,
    show_default=True,
    help="Parameters of a scan.",
)
@click.option(
    "--duration",
    type=Seconds(),
    default=30.0,
    show_default="30s",
    help="Length of the comparison alone; warm-up, batch sizes and verification come on top.",
)
@click.option("--a", type=_ARM, default="baseline", show_default=True, help="Repository of arm A.")
@click.option("--b", type=_ARM, default="synchronizing", show_default=True, help="Repository of arm B.")
@click.option("--plc", is_flag=True, help="Read every scan from an emulator over Modbus TCP.")
@click.option(
    "--process",
    type=click.Choice(["running", "idle"]),
    default="running",
    show_default=True,
    help="Whether a process runs, so that its rows are written too.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Draws which arm begins.")
@click.option("--comparison-only", is_flag=True, help="Leave out batch sizes and concurrent writers.")
@_database_option
@_result_option
def quick(
    parameters: int,
    duration: float,
    a: str,
    b: str,
    plc: bool,
    process: str,
    seed: int,
    comparison_only: bool,
    url: str | None,
    json_path: Path | None,
) -> int:
    """Compare two repositories: what does B cost over A? About a minute.

    Example: plcbench quick --parameters 84 --duration 30
    """
    settings = QuickSettings(
        parameters, duration, a, b, url, process == "running", plc, seed, extras=not comparison_only
    )
    return _quick(settings, json_path, _console()).outcome.exit_code


@cli.command()
@_database_option
@click.option("--schema", default=DEFAULT_SCHEMA, show_default=True, help="Schema with the logger's tables.")
@click.option(
    "--journal",
    "journals",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="What clients wrote to an emulator, as `plcsim run --journal` recorded it; if a device restarted, "
    "only what was written since counts. Give one for each device that was written to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(url: str | None, schema: str, journals: tuple[Path, ...], as_json: bool) -> int:
    """Check what plclogger stored from emulated machines against the truth: invariants I1 to I6.

    Exit code 0: all hold; 5: one is violated.

    Example: plcbench verify --database postgresql://me@localhost/plant
    """
    writes: dict[str, list[Write]] = {}
    for journal in journals:
        for device_id, found in read_last_epochs(journal).items():
            writes.setdefault(device_id, []).extend(found)
    with database(url) as conninfo, mapped_errors(), connect(conninfo, schema, only_reads=True) as connection:
        require_schema(connection, schema)
        verification = verify_schema(connection, lambda device_id: writes.get(device_id, []))
    if as_json:
        click.echo(json.dumps(verification.to_json(), indent=1))
    else:
        console = _console()
        console.print(verification_table(verification, f"{verification.rows:,} history rows"))
        console.print(
            "every invariant holds"
            if not verification.violations
            else f"{verification.violations:,} violations",
            highlight=False,
        )
    return Outcome.INVALID.exit_code if verification.violations else 0


def _quick(settings: QuickSettings, json_path: Path | None, console: Console) -> QuickResult:
    """Say what will happen, do it, write the result, print the answer."""
    path = result_path("quick", json_path)
    total = planned_seconds(settings)
    server = (
        "the given database" if settings.url else "a PostgreSQL of its own (over 1 GB on disk, removed after)"
    )
    console.print(
        f"{settings.a} against {settings.b}, {settings.parameters} parameters a scan, {settings.pairs} pairs "
        f"of slots on {server}; about {total + 8:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    with _progress(console, total) as progress, mapped_errors():
        result = run_quick(settings, progress)
    write_result(path, "quick", result.json)
    print_quick(result, console, str(path))
    return result


def _console() -> Console:
    """As wide as the terminal; in a pipe wide enough that no line of ours is folded."""
    return Console() if sys.stdout.isatty() else Console(width=160)


@cli.command()
def demo() -> int:
    """Log an emulated machine for ten seconds, verify it, then run `quick`: about 90 s.

    Exit code 0 whatever `quick` says of the targets, 5 if any stored data is not right.

    Example: plcbench demo
    """
    console = _console()
    config = demo_device()
    console.print(
        f"1. {config.device.name}: {len(config.register_map.parameters)} parameters, logged every "
        f"{INTERVAL_S:g} s for {LOGGED_S:g} s through a recipe",
        highlight=False,
    )
    with mapped_errors():
        shown = log_and_verify(config, lambda line: console.print(f"   {line}", highlight=False))
    console.print(
        f"   {shown.status.stored_scans} scans, {shown.status.missed} missed, {shown.processes} recipes, "
        f"{shown.status.stored_rows:,} history rows, {shown.process_rows:,} process rows",
        highlight=False,
    )
    console.print(verification_table(shown.verification, "2. Every stored value against the truth"))
    if shown.verification.violations:
        return Outcome.INVALID.exit_code
    console.print("3. What does it cost to keep current values in step?", highlight=False)
    result = _quick(QuickSettings(), None, console)
    return Outcome.INVALID.exit_code if result.violations else 0


@cli.command()
@click.argument("plan", type=click.Path(path_type=Path))
@_database_option
@_result_option
def sweep(plan: Path, url: str | None, json_path: Path | None) -> int:
    """Run every combination of polling interval, devices and repository that PLAN lists.

    Exit code 0: all cells ran; 1: one failed; 5: one violated an invariant.

    Example: plcbench sweep configs/bench/sweep.yaml
    """
    spec = load_sweep(plan)
    path = result_path("sweep", json_path)
    console = _console()
    trials = spec.trials()
    seconds = len(trials) * (spec.duration_s + SECONDS_A_CELL)
    console.print(
        f"{len(trials)} trials, about {seconds:.0f} s; after each one the result is in {path}",
        highlight=False,
    )
    with mapped_errors():
        cells = run_sweep(spec, url, path, lambda cell: console.print(cell_line(cell), highlight=False))
    console.print(sweep_table(cells))
    console.print(f"result: {path}", highlight=False)
    if any(cell.result and cell.result.violations for cell in cells):
        return Outcome.INVALID.exit_code
    return 1 if any(cell.error for cell in cells) else 0


@contextmanager
def _progress(console: Console, total: float) -> Iterator[OnProgress]:
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


def main() -> None:
    """Entry point of the `plcbench` command."""
    run_command("plcbench", cli)
