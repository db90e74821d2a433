"""`plcbench verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bench.analysis.verdict import Outcome
from bench.cli.options import console, database_option
from bench.oracle.verify import verify as verify_schema
from bench.report.verification import verification_table
from logger.database import DEFAULT_SCHEMA, connect, database, mapped_errors, require_schema
from plcsim.write_journal import read_last_epochs
from plcsim.writes import Write


@click.command()
@database_option
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
        out = console()
        out.print(verification_table(verification, f"{verification.rows:,} history rows"))
        out.print(
            "every invariant holds"
            if not verification.violations
            else f"{verification.violations:,} violations",
            highlight=False,
        )
    return Outcome.INVALID.exit_code if verification.violations else 0
