"""`plclogger quarantine`: scans that the database refused for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from logger.cli import options
from logger.database import connect, database, require_schema
from logger.database.reinsertion import insert_quarantined
from logger.scan import Scan
from logger.spool import Quarantine, Quarantined
from logger.spool_folder import check_used
from plcsim.errors import InputError

_spool = options.spool_option("The logger's spool.  [default: that of --file, or the only one there is]")
_of = click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Device or fleet file of the logger.",
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
@options.by
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


@quarantine.command()
@click.argument("ids", nargs=-1, required=True)
@_of
@_spool
def remove(ids: Sequence[str], files: Sequence[Path], spool: Path | None) -> None:
    """Let go of scans in quarantine for good: their gap records stay. Export them first.

    Example: plclogger quarantine remove ald-1-1-4711
    """
    store = _quarantine(files, spool)
    for id in ids:
        store.load(id)  # all are there, or nothing is removed
    for id in ids:
        store.remove(id)
    click.echo(f"{len(ids)} scans removed")


def _quarantine(files: Sequence[Path], spool: Path | None) -> Quarantine:
    folder = options.spool_of(files, spool)
    check_used(folder)
    return Quarantine(folder)


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
