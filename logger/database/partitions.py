"""Partitions of the history: a day (UTC) each, made ahead, or on demand for the days that a batch holds.

A partition is made as a table of its own and then attached: that takes a lock which lets loggers go on
(PostgreSQL documentation, ALTER TABLE … ATTACH PARTITION), unlike CREATE TABLE … PARTITION OF.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, sql

from logger.errors import DatabaseError

PARENTS = ("parameter_value_history", "process_data_points")
DAYS_AHEAD = 2
"""Besides today; fewer are a reason for an alarm."""

_DAY_US = 86_400_000_000
_MAX_DAYS = 31
_LOCK = 0x706C6374
"""First half of the advisory lock that who makes partitions holds; the second is the schema's oid."""


class Partition(NamedTuple):
    """A table that is a part of another."""

    parent: str
    name: str
    from_at: datetime
    """Its rows are recorded at this time or later …"""
    to_at: datetime
    """… and before this."""
    is_detaching: bool
    """Taking it out was begun and not ended: its rows show no more, its range is not free yet."""


def partitions(connection: Connection[Any]) -> list[Partition]:
    """All partitions of the schema, by table and time; one without bounds, of somebody else, is left out."""
    rows = connection.execute(
        """
        SELECT p.relname, c.relname,
            greatest(coalesce(nullif(bound[1], 'MINVALUE')::timestamptz, '-infinity'), '0001-01-01Z'),
            least(coalesce(nullif(bound[2], 'MAXVALUE')::timestamptz, 'infinity'), '9999-12-31Z'),
            i.inhdetachpending
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        JOIN pg_class AS p ON p.oid = i.inhparent,
        regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \\('?(.+?)'?\\) TO \\('?(.+?)'?\\)$$) AS bound
        WHERE p.relname = ANY(%s) AND p.relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND bound IS NOT NULL
        ORDER BY 1, 3""",
        (list(PARENTS),),
    )
    return [Partition(*row) for row in rows]


def create_ahead(connection: Connection[Any], today: date | None = None) -> list[str]:
    """Make what is missing of today and the next DAYS_AHEAD days; returns the names of what was made.

    Without `today` the database's. Raises psycopg.Error.
    """
    if today is None:
        row = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
        assert row is not None
        today = row[0]
    return create_days(connection, (today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)))


def create_partitions(connection: Connection[Any], first_us: int, last_us: int) -> list[str]:
    """Make what is missing of the days from one time to another; microseconds since 1970, UTC.

    Of more than 31 days only the first and the last: so far apart are times only if a clock was set
    between them, and nothing was recorded in the days that it leapt over. Returns the names of what was
    made. Raises DatabaseError for a time that has no date, and psycopg.Error.
    """
    first, last = _day_of(first_us), _day_of(last_us)
    count = (last - first).days + 1
    if count > _MAX_DAYS:
        return create_days(connection, (first, last))
    return create_days(connection, (first + timedelta(days=n) for n in range(count)))


def create_partitions_for(connection: Connection[Any], recorded_at: NDArray[np.int64]) -> list[str]:
    """Make what is missing of exactly the days that these times fall on; otherwise as create_partitions."""
    return create_days(connection, (_day_of(int(day) * _DAY_US) for day in np.unique(recorded_at // _DAY_US)))


def create_days(connection: Connection[Any], days: Iterable[date]) -> list[str]:
    """Make the partitions of these days that are missing, all or none; returns their names."""
    wanted = sorted(set(days))
    missing = _missing(wanted, partitions(connection))
    if not missing:
        return []
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '8s'")  # several loggers may start together
        connection.execute(
            "SELECT pg_advisory_xact_lock(%s, to_regnamespace(quote_ident(current_schema()))::oid::int)",
            (_LOCK,),
        )
        become_owner(connection)
        existing = partitions(connection)
        missing = _missing(wanted, existing)
        for partition in existing:
            if partition.is_detaching and any(_covers(partition, *each) for each in missing):
                finish_detaching(connection, partition)
        made = [(parent, _free_name(connection, parent, day), day) for parent, day in missing]
        if made:
            connection.execute(sql.SQL("").join(_creation(*each) for each in made))
    return [name for _, name, _ in made]


def become_owner(connection: Connection[Any]) -> None:
    """Until the end of the transaction, act as the owner of our tables: who may, but is another, would make
    tables that the owner cannot use. Raises psycopg.errors.InsufficientPrivilege."""
    row = connection.execute(
        "SELECT pg_get_userbyid(relowner) FROM pg_class"
        " WHERE oid = 'plcsim_schema'::regclass AND pg_get_userbyid(relowner) <> current_user"
    ).fetchone()
    if row is not None:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(row[0])))


def finish_detaching(connection: Connection[Any], partition: Partition) -> None:
    """End a DETACH … CONCURRENTLY that was interrupted."""
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(
            sql.Identifier(partition.parent), sql.Identifier(partition.name)
        )
    )


def _day_of(time_us: int) -> date:
    try:
        day = date(1970, 1, 1) + timedelta(days=time_us // _DAY_US)
        day + timedelta(days=1)  # where its partition ends
        return day
    except OverflowError:
        raise DatabaseError(
            f"no partition can be made for {time_us} µs since 1970: years go from 1 to 9999"
        ) from None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _missing(days: list[date], existing: list[Partition]) -> list[tuple[str, date]]:
    """What has no partition yet; one that is longer than a day (of version 1) may hold several."""
    return [
        (parent, day)
        for parent in PARENTS
        for day in days
        if not any(_covers(p, parent, day) and not p.is_detaching for p in existing)
    ]


def _covers(partition: Partition, parent: str, day: date) -> bool:
    return partition.parent == parent and partition.from_at <= _midnight(day) < partition.to_at


def _free_name(connection: Connection[Any], parent: str, day: date) -> str:
    """A name that no table has, nor a partition that retention took out before late rows came."""
    name = base = f"{parent}_{day.isoformat().replace('-', '_')}"
    number = 1
    while connection.execute(
        "SELECT 1 FROM pg_class WHERE relname = %(name)s"
        " AND relnamespace = to_regnamespace(quote_ident(current_schema()))"
        " UNION ALL SELECT 1 FROM expired_partitions WHERE partition = %(name)s",
        {"name": name},
    ).fetchone():
        number += 1
        name = f"{base}_{number}"
    return name


def _creation(parent: str, name: str, day: date) -> sql.Composed:
    """The table, its own trigger (statement triggers are not handed down), and the attaching of both."""
    return sql.SQL(
        "CREATE TABLE {name} (LIKE {parent} INCLUDING ALL);"
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();"
        "ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({last});"
    ).format(
        name=sql.Identifier(name),
        parent=sql.Identifier(parent),
        first=sql.Literal(_bound(day)),
        last=sql.Literal(_bound(day + timedelta(days=1))),
    )


def _bound(day: date) -> str:
    return f"{day.isoformat()} 00:00:00+00"
