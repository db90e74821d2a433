"""What must be done now and then: partitions ahead, retention, an index on closed partitions.

One pass at a time in a schema; every step may be interrupted and is ended by the next pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import Connection, sql

from logger.database.connection import first_line
from logger.database.partitions import (
    DAYS_AHEAD,
    PARENTS,
    Partition,
    create_ahead,
    finish_detaching,
    partitions,
)
from logger.database.retention import (
    Retention,
    detach,
    drop,
    droppable,
    is_held,
    is_written_since,
    register_detached,
)

log = logging.getLogger(__name__)

_LOCK = 0x706C6375
_CLOSED_AFTER = timedelta(hours=1)
"""Behind the end of its day: few rows come later."""
_PATIENCE = {"statement_timeout": "30min", "lock_timeout": "30s", "transaction_timeout": "0"}
_DETACH_WITHIN = "60s"
"""It waits for readers; what is not done by then, the next pass ends."""
KEEP_EVERYTHING = Retention()
_OWNER = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'plcsim_schema'::regclass"
_SCHEMA_OID = "to_regnamespace(quote_ident(current_schema()))::oid::int"


@dataclass
class MaintenanceReport:
    """What one pass did."""

    ran: bool = True
    """False: another logger's pass was under way, nothing was done."""
    created: list[str] = field(default_factory=list)
    indexed: list[str] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Old enough to go, and held."""
    days_ahead: int = 0
    """Days after today that have their partitions; fewer than DAYS_AHEAD: somebody should look."""
    warnings: list[str] = field(default_factory=list)
    """What could not be done, and what is odd; one line each."""


def maintain(
    connection: Connection[Any], now: datetime | None = None, retention: Retention = KEEP_EVERYTHING
) -> MaintenanceReport:
    """Do one pass. The connection is in autocommit mode and outside a transaction.

    `now` None: by the database's clock, as a logger should, whose own may be wrong. A step that fails
    is a warning, and the others are done; so it is if the user is not the owner of the tables, whose
    work this is. Raises psycopg.OperationalError if the connection is lost.
    """
    report = MaintenanceReport()
    with _only_one(connection) as ours:
        if not ours:
            return MaintenanceReport(ran=False)
        if now is None:
            (now,) = _one(connection, "SELECT clock_timestamp()")
        now = now.astimezone(UTC)
        with _patience(connection), _attempt(connection, report, "acting as the owner of the tables"):
            _set(connection, "role", *_one(connection, _OWNER))
            _do_steps(connection, now, retention, report)
        _look(partitions(connection), now, report)
    return report


def _do_steps(
    connection: Connection[Any], now: datetime, retention: Retention, report: MaintenanceReport
) -> None:
    with _attempt(connection, report, "partitions ahead"):
        report.created += create_ahead(connection, now.date())
    with _attempt(connection, report, "ending what was interrupted"):
        report.detached += _end_interrupted(connection)
    keeps_from = retention.keeps_from(now)
    for partition in _expired(partitions(connection), keeps_from):
        with _attempt(connection, report, f"taking out {partition.name}"):
            _expire(connection, partition, keeps_from, report)
    for name in droppable(connection) if retention.drop else []:
        with _attempt(connection, report, f"dropping {name}"):
            if drop(connection, name):
                report.dropped.append(name)
    for partition in _without_index(connection, now):
        with _attempt(connection, report, f"index on {partition.name}"):
            _index(connection, partition)
            report.indexed.append(partition.name)


@contextmanager
def _attempt(connection: Connection[Any], report: MaintenanceReport, what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        if connection.closed:
            raise
        report.warnings.append(f"{what}: {first_line(exc)}")
        log.warning("maintenance: %s: %s", what, first_line(exc))


def _end_interrupted(connection: Connection[Any]) -> list[str]:
    for partition in partitions(connection):
        if partition.is_detaching:
            finish_detaching(connection, partition)
    return register_detached(connection)


def _expired(existing: list[Partition], keeps_from: datetime | None) -> list[Partition]:
    """Oldest first."""
    gone = [p for p in existing if keeps_from is not None and p.to_at <= keeps_from]
    return sorted(gone, key=lambda p: p.to_at)


def _expire(
    connection: Connection[Any], partition: Partition, keeps_from: datetime | None, report: MaintenanceReport
) -> None:
    assert keeps_from is not None
    if is_held(connection, partition):
        report.held.append(partition.name)
    elif not is_written_since(connection, partition, keeps_from):
        _set(connection, "statement_timeout", _DETACH_WITHIN)
        try:
            detach(connection, partition)
        finally:
            if not connection.closed:
                _set(connection, "statement_timeout", _PATIENCE["statement_timeout"])
        report.detached.append(partition.name)


def _without_index(connection: Connection[Any], now: datetime) -> list[Partition]:
    """Closed partitions of the history that have no valid index for trends yet."""
    indexed = {
        table
        for (table,) in connection.execute(
            "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid"
            " JOIN pg_class AS x ON x.oid = i.indexrelid"
            " WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))"
            " AND i.indisvalid AND x.relname = c.relname || '_by_parameter'"
        )
    }
    return [
        p
        for p in partitions(connection)
        if p.parent == PARENTS[0] and p.to_at + _CLOSED_AFTER <= now and p.name not in indexed
    ]


def _index(connection: Connection[Any], partition: Partition) -> None:
    """One that was interrupted is left behind invalid, and made anew."""
    index, table = sql.Identifier(f"{partition.name}_by_parameter"), sql.Identifier(partition.name)
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index))
    columns = "(device_id, parameter_id, recorded_at)"
    connection.execute(sql.SQL(f"CREATE INDEX CONCURRENTLY {{}} ON {{}} {columns}").format(index, table))


def _look(existing: list[Partition], now: datetime, report: MaintenanceReport) -> None:
    def covers(day: datetime) -> bool:
        return all(any(p.parent == name and p.from_at <= day < p.to_at for p in existing) for name in PARENTS)

    while report.days_ahead < 366 and covers(now + timedelta(days=report.days_ahead + 1)):
        report.days_ahead += 1
    if report.days_ahead < DAYS_AHEAD:
        report.warnings.append(f"there are partitions for {report.days_ahead} of the next {DAYS_AHEAD} days")
    report.warnings += [
        f"{p.name} is of a day to come: a clock was wrong"
        for p in existing
        if p.from_at > now + timedelta(days=DAYS_AHEAD + 1)
    ]


@contextmanager
def _only_one(connection: Connection[Any]) -> Iterator[bool]:
    (ours,) = _one(connection, f"SELECT pg_try_advisory_lock({_LOCK}, {_SCHEMA_OID})")
    try:
        yield ours
    finally:
        if ours and not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_LOCK}, {_SCHEMA_OID})".encode())


@contextmanager
def _patience(connection: Connection[Any]) -> Iterator[None]:
    """Time enough for an index or a count; role and times afterwards as they were before."""
    is_new = connection.info.server_version >= 170000
    names = [name for name in _PATIENCE if name != "transaction_timeout" or is_new]
    before = {name: _one(connection, f"SHOW {name}")[0] for name in names}
    try:
        for name in names:
            _set(connection, name, _PATIENCE[name])
        yield
    finally:
        if not connection.closed:
            connection.execute("RESET ROLE")
            for name, value in before.items():
                _set(connection, name, value)


def _set(connection: Connection[Any], name: str, value: str) -> None:
    connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _one(connection: Connection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row
