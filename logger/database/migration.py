"""Brings tables of an older version forward, step by step; no stored row or hash is changed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from psycopg import Connection, sql

from logger.database.partitions import PARENTS, create_days
from logger.errors import DatabaseRefused

log = logging.getLogger(__name__)

_FILES = files("logger.database")
_DAY = timedelta(days=1)

_FOREIGN_VIEWS = """
SELECT DISTINCT r.ev_class::regclass::text, d.refobjid::regclass::text
FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = ANY(%s::text[]::regclass[]) AND r.ev_class <> d.refobjid ORDER BY 1"""


def migrate(connection: Connection[Any], version: int, to_version: int) -> None:
    """Bring tables forward, inside the transaction of the caller.

    Raises DatabaseRefused if a view of somebody else's stands on a table that is made anew, and
    psycopg.Error.
    """
    for step in range(version, to_version):
        log.info("bringing the tables forward from version %d to %d", step, step + 1)
        _refuse_foreign_views(connection)
        connection.execute(_FILES.joinpath("migrations", f"{step}_to_{step + 1}.sql").read_bytes())
        if step == 1:
            for parent in PARENTS:
                _attach_old_table(connection, parent)


def _refuse_foreign_views(connection: Connection[Any]) -> None:
    """A view stays with the table that it was made on: behind the new ones it would show old rows only."""
    row = connection.execute(_FOREIGN_VIEWS, ([*PARENTS, "component_parameters"],)).fetchone()
    if row is not None:
        raise DatabaseRefused(
            f"the tables must be brought forward, and view {row[0]} stands on {row[1]}: drop the view, start "
            "plclogger, and make it again"
        )


def _attach_old_table(connection: Connection[Any], parent: str) -> None:
    """Make a table of version 1 the partition of all days that it holds; drop it if it is empty.

    Rows of days to come, from a clock that was wrong, get the partitions of their days: otherwise all
    that is logged until then would go into the old table.
    """
    old, new = sql.Identifier(f"{parent}_v1"), sql.Identifier(parent)
    first, last, now = _row(
        connection, sql.SQL("SELECT min(recorded_at), max(recorded_at), now() FROM {}").format(old)
    )
    if first is None:
        connection.execute(sql.SQL("DROP TABLE {}").format(old))
        return
    end = min(_midnight(last), max(_midnight(now), _midnight(first))) + _DAY
    if last >= end:
        _move_later_rows(connection, old, new, end)
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            new, old, sql.Literal(_midnight(first).isoformat()), sql.Literal(end.isoformat())
        )
    )


def _move_later_rows(
    connection: Connection[Any], old: sql.Identifier, new: sql.Identifier, end: datetime
) -> None:
    later = sql.SQL("FROM {} WHERE recorded_at >= {}").format(old, sql.Literal(end.isoformat()))
    days = connection.execute(
        sql.SQL("SELECT DISTINCT (recorded_at AT TIME ZONE 'UTC')::date {}").format(later)
    )
    create_days(connection, [day for (day,) in days.fetchall()])
    connection.execute(sql.SQL("INSERT INTO {} SELECT * {}").format(new, later))
    connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER append_only").format(old))
    connection.execute(sql.SQL("DELETE {}").format(later))
    connection.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER append_only").format(old))


def _row(connection: Connection[Any], query: sql.Composed) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row


def _midnight(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
