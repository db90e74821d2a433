"""`plcbench quick` and `plcbench demo`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.analysis.verdict import Outcome, Targets
from bench.arms.clones import parse_tables
from bench.cli.arm_options import arm_a_option, arm_b_option
from bench.cli.options import console, database_option, progress_on, result_option
from bench.cli.targets import targets_option
from bench.load.machine import FEWEST_PARAMETERS
from bench.quick.demo import INTERVAL_S, LOGGED_S, demo_device, log_and_verify
from bench.quick.result import QuickResult, QuickSettings
from bench.quick.run import planned_seconds, run_quick
from bench.report.text import print_quick
from bench.report.verification import verification_table
from bench.results import result_path, write_result
from logger.database import mapped_errors
from plcsim.command import Seconds


@click.command()
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
@arm_a_option
@arm_b_option
@click.option(
    "--tables",
    default="",
    metavar="SCHEMA.TABLE,…",
    help="Tables of yours that both arms get clones of, in schemas of our own: yours are only read.",
)
@click.option("--copy-rows", is_flag=True, help="Copy the rows of --tables, too.")
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
@targets_option
@database_option
@result_option
def quick(
    parameters: int,
    duration: float,
    a: str,
    b: str,
    tables: str,
    copy_rows: bool,
    plc: bool,
    process: str,
    seed: int,
    comparison_only: bool,
    targets: Targets,
    url: str | None,
    json_path: Path | None,
) -> int:
    """Compare two arms: what does B cost over A? Within a minute.

    An ARM is a repository of ours (baseline, synchronizing), strategy:NAME, a class of yours
    (MODULE:CLASS, see examples/own_repository.py) or a SQL file of yours (see
    examples/own_transaction.sql), with settings behind it: +fillfactor=70, +index=current_value,
    +synchronous_commit=off, +trigger=off, +pool=4.

    Example: plcbench quick --parameters 84 --duration 30
    """
    clones = parse_tables(tables, copy_rows)
    if copy_rows and not clones.tables:
        raise click.UsageError("--copy-rows copies the rows of --tables; name them")
    if clones.tables and not url:
        raise click.UsageError("--tables are tables of yours: say by --database where they are")
    settings = QuickSettings(
        parameters,
        duration,
        a,
        b,
        url,
        process == "running",
        plc,
        seed,
        extras=not comparison_only,
        targets=targets,
        clones=clones,
    )
    return _quick(settings, json_path, console()).outcome.exit_code


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
    with progress_on(console, total) as progress, mapped_errors():
        result = run_quick(settings, progress)
    write_result(path, "quick", result.json)
    print_quick(result, console, str(path))
    return result


@click.command()
def demo() -> int:
    """Log an emulated machine for ten seconds, verify it, then run `quick`: about 90 s.

    Exit code 0 whatever `quick` says of the targets, 5 if any stored data is not right.

    Example: plcbench demo
    """
    out = console()
    config = demo_device()
    out.print(
        f"1. {config.device.name}: {len(config.register_map.parameters)} parameters, logged every "
        f"{INTERVAL_S:g} s for {LOGGED_S:g} s through a recipe",
        highlight=False,
    )
    with mapped_errors():
        shown = log_and_verify(config, lambda line: out.print(f"   {line}", highlight=False))
    out.print(
        f"   {shown.status.stored_scans} scans, {shown.status.missed} missed, {shown.processes} recipes, "
        f"{shown.status.stored_rows:,} history rows, {shown.process_rows:,} process rows",
        highlight=False,
    )
    out.print(verification_table(shown.verification, "2. Every stored value against the truth"))
    if shown.verification.violations:
        return Outcome.INVALID.exit_code
    out.print("3. What does it cost to keep current values in step?", highlight=False)
    result = _quick(QuickSettings(), None, out)
    return Outcome.INVALID.exit_code if result.violations else 0
