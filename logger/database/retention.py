"""Takes old partitions out of their tables, and drops them unless they are held. Nothing is deleted by row.

Each step is written down in `expired_partitions`, before it is begun and when it is done, so that a later
pass ends what was interrupted and `plcbench verify` knows what may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection, sql

from logger.database.partitions import Partition, partitions
from plcsim.errors import InputError

_NEWEST_BYTES = 2 * 1024 * 1024
"""At the end of a table that is only appended to: holds its newest rows."""


@dataclass(frozen=True)
class Retention:
    """How long history is kept."""

    keep_days: int | None = None
    """Days before today that stay; None: all."""
    drop: bool = False
    """Drop what was taken out; otherwise it stays as a table of its own."""

    def __post_init__(self) -> None:
        if self.keep_days is not None and self.keep_days < 1:
            raise InputError(
                f"keep_days is {self.keep_days}; it must be at least 1, or none to keep everything"
            )

    def keeps_from(self, now: datetime) -> datetime | None:
        """The first moment that is kept; None: all are."""
        if self.keep_days is None:
            return None
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today - timedelta(days=self.keep_days)


def hold(connection: Connection[Any], partition: str, reason: str) -> None:
    """Keep a partition, also against retention, until `release_hold`. What is already taken out stays out,
    and is not dropped.

    Raises InputError if there is no such partition (any more) or no reason is given.
    """
    if not reason.strip():
        raise InputError(f"a hold of {partition} needs a reason")
    attached = {p.name: p for p in partitions(connection)}.get(partition)
    if attached is not None:
        _enter(connection, attached)
    held = connection.execute(
        "UPDATE expired_partitions SET held = %s WHERE partition = %s AND dropped_at IS NULL",
        (reason, partition),
    )
    if held.rowcount == 0:
        raise _unknown(connection, partition)


def release_hold(connection: Connection[Any], partition: str) -> None:
    """End a hold. Raises InputError if the partition is not held."""
    released = connection.execute(
        "UPDATE expired_partitions SET held = NULL"
        " WHERE partition = %s AND held IS NOT NULL AND dropped_at IS NULL",
        (partition,),
    )
    if released.rowcount == 0:
        raise InputError(f"partition {partition!r} is not held")


def is_held(connection: Connection[Any], partition: Partition) -> bool:
    """Whether it must stay."""
    row = connection.execute(
        "SELECT held FROM expired_partitions WHERE parent = %s AND partition = %s",
        (partition.parent, partition.name),
    ).fetchone()
    return row is not None and row[0] is not None


def is_written_since(connection: Connection[Any], partition: Partition, since: datetime) -> bool:
    """Whether rows came into it since then, by the database's clock: late ones, or of a clock that was wrong.

    By the ledger, and the end of the table: rows are only ever appended.
    """
    table = sql.Identifier(partition.name)
    row = connection.execute(
        sql.SQL(
            """
            SELECT max(logged_at) >= %s FROM logging_transactions JOIN (
                SELECT DISTINCT transaction_id FROM {} WHERE ctid >= format('(%%s,0)',
                    greatest(0, pg_relation_size({}::regclass) - %s) / current_setting('block_size')::int
                )::tid
            ) AS newest USING (transaction_id)"""
        ).format(table, sql.Literal(table.as_string(connection))),
        (since, _NEWEST_BYTES),
    ).fetchone()
    return bool(row and row[0])


def detach(connection: Connection[Any], partition: Partition) -> None:
    """Take a partition out while loggers go on, and write that down. Not inside a transaction.

    Raises psycopg.Error; `register_detached` in a later pass then ends what was begun.
    """
    _enter(connection, partition)
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY").format(
            sql.Identifier(partition.parent), sql.Identifier(partition.name)
        )
    )
    register_detached(connection)


def register_detached(connection: Connection[Any]) -> list[str]:
    """Write down what is out and not written down yet; returns the names."""
    attached = {(p.parent, p.name) for p in partitions(connection)}
    begun = connection.execute(
        "SELECT parent, partition FROM expired_partitions WHERE detached_at IS NULL"
        " AND to_regclass(quote_ident(partition)) IS NOT NULL ORDER BY 1, 2"
    ).fetchall()
    done = [(parent, name) for parent, name in begun if (parent, name) not in attached]
    for parent, name in done:
        connection.execute(
            sql.SQL(
                "UPDATE expired_partitions"
                " SET detached_at = clock_timestamp(), rows = (SELECT count(*) FROM {})"
                " WHERE parent = %s AND partition = %s"
            ).format(sql.Identifier(name)),
            (parent, name),
        )
    return [name for _, name in done]


def droppable(connection: Connection[Any]) -> list[str]:
    """Partitions that are out and not held."""
    rows = connection.execute(
        "SELECT partition FROM expired_partitions"
        " WHERE detached_at IS NOT NULL AND dropped_at IS NULL AND held IS NULL ORDER BY to_at, partition"
    ).fetchall()
    return [name for (name,) in rows]


def drop(connection: Connection[Any], partition: str) -> bool:
    """Drop what is out; False if it is held by now. Raises psycopg.Error."""
    with connection.transaction():
        marked = connection.execute(  # locks the row: a hold that comes now finds it dropped
            "UPDATE expired_partitions SET dropped_at = clock_timestamp() WHERE partition = %s"
            " AND detached_at IS NOT NULL AND dropped_at IS NULL AND held IS NULL",
            (partition,),
        )
        if marked.rowcount:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(partition)))
    return bool(marked.rowcount)


def _enter(connection: Connection[Any], partition: Partition) -> None:
    connection.execute(
        "INSERT INTO expired_partitions (parent, partition, from_at, to_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (partition.parent, partition.name, partition.from_at, partition.to_at),
    )


def _unknown(connection: Connection[Any], partition: str) -> InputError:
    names = [p.name for p in partitions(connection)]
    some = f"; there is {names[0]} … {names[-1]}" if names else ""
    return InputError(f"there is no partition {partition!r}{some}")
