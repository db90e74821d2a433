"""`plclogger void`, `quarantine` and `maintain`: what an operator does to what is stored."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from logger.cli import options
from logger.database import connect, database, mapped_errors, require_schema
from logger.database.compensation import void as void_transaction
from logger.database.maintenance import maintain as maintain_once
from logger.database.reinsertion import insert_quarantined
from logger.database.retention import Retention, hold, release_hold
from logger.scan import Scan
from logger.spool import Quarantine, Quarantined
from plcsim.errors import InputError

_by = click.option(
    "--by",
    default=getpass.getuser,
    show_default="the user of this process",
    help="Who does it, for the record.",
)
_spool = options.spool_option("The logger's spool.  [default: that of --file, or the only one there is]")
_of = click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Device or fleet file of the logger.",
)


@click.command()
@click.argument("transaction")
@click.option("--reason", required=True, help="Why; it is stored with the void.")
@_by
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


@click.group()
def quarantine() -> None:
    """Scans that the database refused for good: list, show, insert again, export.

    Example: plclogger quarantine list
    """


@quarantine.command("list")
@_of
@_spool
@options.as_json
def list_(files: Sequence[Path], spool: Path | None, as_json: bool) -> None:
    """List the scans in quarantine, and why the database refused them.

    Example: plclogger quarantine list --file configs/ald.yaml
    """
    entries = _quarantine(files, spool).list()
    for entry in entries:
        click.echo(json.dumps(_described(entry)) if as_json else _in_words(entry))
    if not entries and not as_json:
        click.echo("nothing is in quarantine")


@quarantine.command()
@click.argument("id")
@_of
@_spool
def show(id: str, files: Sequence[Path], spool: Path | None) -> None:
    """Show one scan in quarantine with all its values, as JSON.

    Example: plclogger quarantine show ald-1-1-4711
    """
    entry, scan = _quarantine(files, spool).load(id)
    click.echo(json.dumps({**_described(entry), **_values(scan)}, indent=1))


@quarantine.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that are in quarantine.")
@_by
@_of
@_spool
@options.url
@options.schema
def insert(
    ids: Sequence[str],
    all_: bool,
    by: str,
    files: Sequence[Path],
    spool: Path | None,
    url: str | None,
    schema: str,
) -> int:
    """Store scans of the quarantine, all of them or none, once what the database refused is mended.

    Example: plclogger quarantine insert --all
    """
    if bool(ids) == all_:
        raise InputError("name the scans to insert, or --all")
    store = _quarantine(files, spool)
    if all_ and not store.list():
        click.echo("nothing is in quarantine")
        return 0
    with database(url) as conninfo, connect(conninfo, schema) as connection:
        require_schema(connection, schema)
        report = insert_quarantined(connection, store, None if all_ else list(ids), by)
    if not report.is_done:
        click.echo(
            f"plclogger: nothing was inserted, {report.scans} scans stay in quarantine "
            f"({len(report.undone)} transactions undone): {report.error}",
            err=True,
        )
        return 1
    click.echo(f"{report.stored} scans inserted, {report.rows} rows; {report.already} were there already")
    return 0


@quarantine.command()
@click.argument("target", type=click.Path(path_type=Path))
@_of
@_spool
def export(target: Path, files: Sequence[Path], spool: Path | None) -> None:
    """Write all scans in quarantine to TARGET, a JSON object a line; they stay in quarantine.

    Example: plclogger quarantine export refused.jsonl
    """
    store = _quarantine(files, spool)
    entries = store.list()
    try:
        with target.open("x", encoding="utf-8") as file:
            for entry in entries:
                _, scan = store.load(entry.id)
                file.write(json.dumps({**_described(entry), **_values(scan)}) + "\n")
    except OSError as exc:
        raise InputError(f"{target}: cannot be written: {exc.strerror}") from None
    click.echo(f"{len(entries)} scans written to {target}")


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


def _quarantine(files: Sequence[Path], spool: Path | None) -> Quarantine:
    return Quarantine(options.spool_of(files, spool))


def _described(entry: Quarantined) -> dict[str, Any]:
    return {
        "id": entry.id,
        "device_id": entry.key.device_id,
        "stream_id": entry.key.stream_id,
        "scan": entry.number_in_database,
        "quarantined_at": _time(entry.quarantined_at_us),
        "sqlstate": entry.sqlstate,
        "error": entry.error,
    }


def _in_words(entry: Quarantined) -> str:
    return (
        f"{entry.id}: scan {entry.number_in_database} of stream {entry.key.stream_id} of "
        f"{entry.key.device_id}, {_time(entry.quarantined_at_us)}: {entry.error}"
    )


def _values(scan: Scan) -> dict[str, Any]:
    return {
        "recorded_at": [_time(int(us)) for us in scan.recorded_at],
        "values": [None if value != value else value for value in scan.values.tolist()],
        "quality": scan.quality.tolist(),
        "texts": {str(text.column): text.text for text in scan.texts},
        "process_number": scan.process_number,
    }


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()
