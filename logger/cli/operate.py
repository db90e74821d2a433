"""`plclogger void` and `maintain`: what an operator does to what is stored."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from logger.cli import options
from logger.database import connect, database, mapped_errors, require_schema
from logger.database.compensation import void as void_transaction
from logger.database.maintenance import maintain as maintain_once
from logger.database.retention import Retention, hold, release_hold
from plcsim.errors import InputError


@click.command()
@click.argument("transaction")
@click.option("--reason", required=True, help="Why; it is stored with the void.")
@options.by
@options.url
@options.schema
def void(transaction: str, reason: str, by: str, url: str | None, schema: str) -> None:
    """Declare all that TRANSACTION stored invalid. Nothing is erased: views leave it out, current values
    fall back to the newest value that is valid.

    Example: plclogger void 3f1c9a52-… --reason "sensor was calibrated"
    """
    with database(url) as conninfo, connect(conninfo, schema) as connection:
        require_schema(connection, schema)
        report = void_transaction(connection, transaction, reason, by)
    scans = (
        f"scans {report.first_scan} to {report.last_scan} of stream {report.stream_id} of {report.device_id}"
    )
    if report.already:
        click.echo(
            f"{report.transaction_id} was void already: {scans}, by {report.voided_by} at "
            f"{report.voided_at:%Y-%m-%d %H:%M:%S} UTC: {report.reason}"
        )
        return
    click.echo(
        f"{report.transaction_id} is void: {scans}, {report.rows} rows; {report.fell_back} current values "
        f"fell back, {report.emptied} have no valid value left"
    )


@click.command()
@click.option("--keep-days", type=click.IntRange(1), help="Detach history that is older.  [default: keep it]")
@click.option("--drop", is_flag=True, help="Drop what is detached and not held.")
@click.option(
    "--hold", "held", metavar="PARTITION", help="Keep a partition whatever its age; needs --reason."
)
@click.option("--release", metavar="PARTITION", help="End a hold.")
@click.option("--reason", help="Of the hold.")
@options.url
@options.schema
@options.as_json
def maintain(
    keep_days: int | None,
    drop: bool,
    held: str | None,
    release: str | None,
    reason: str | None,
    url: str | None,
    schema: str,
    as_json: bool,
) -> int:
    """Create partitions ahead, index closed ones, detach and drop old ones. A running logger does this
    every hour, but never drops.

    Example: plclogger maintain --keep-days 400
    """
    if held and not reason:
        raise InputError("--hold needs --reason")
    if reason and not held:
        raise InputError("--reason is that of a --hold")
    with database(url) as conninfo, connect(conninfo, schema) as connection, mapped_errors():
        require_schema(connection, schema)
        if held:
            hold(connection, held, str(reason))
        if release:
            release_hold(connection, release)
        report = maintain_once(connection, retention=Retention(keep_days, drop))
    if as_json:
        click.echo(json.dumps(asdict(report)))
    elif not report.ran:
        click.echo("another maintenance is under way; nothing was done")
    else:
        _show_maintenance(asdict(report))
    return 1 if report.warnings or not report.ran else 0


def _show_maintenance(report: dict[str, Any]) -> None:
    for what in ("created", "indexed", "detached", "dropped", "held"):
        if names := report[what]:
            click.echo(f"{what}: {', '.join(names)}")
    click.echo(f"partitions for {report['days_ahead']} days ahead")
    for warning in report["warnings"]:
        click.echo(f"plclogger: WARNING: {warning}", err=True)
