"""Makes our tables in a schema, or brings those of an older version forward; refuses all others."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from logger.database.connection import DEFAULT_SCHEMA, first_line, mapped_errors
from logger.database.migration import migrate
from logger.database.partitions import become_owner, create_ahead
from logger.errors import DatabaseRefused

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2

_SCHEMA_LOCK = 0x706C6373  # "plcs": held while tables are made or brought forward
_FILES = files("logger.database")


def prepare_schema(connection: Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Make our tables in the schema, or bring them forward, and the partitions of the next days.

    Raises DatabaseRefused if the schema holds tables that are not ours, or ours of a newer version;
    then nothing was changed.
    """
    with mapped_errors(), connection.transaction():
        _take_time(connection)
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_SCHEMA_LOCK, schema))
        tables = _tables(connection, schema)
        if not tables:
            if not _exists(connection, schema):  # IF NOT EXISTS would ask for the right to create it
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(_FILES.joinpath("schema.sql").read_bytes())
            connection.execute(_FILES.joinpath("views.sql").read_bytes())
        elif "plcsim_schema" not in tables:
            raise DatabaseRefused(
                f"schema {schema!r} of database {connection.info.dbname!r} holds somebody else's "
                f"tables ({_some(tables)}); name an empty one with --schema"
            )
        elif 1 <= (version := _version(connection)) < SCHEMA_VERSION:
            become_owner(connection)
            migrate(connection, version, SCHEMA_VERSION)
            connection.execute(_FILES.joinpath("views.sql").read_bytes())
        else:
            require_schema(connection, schema)
        _prepare_days(connection)


def require_schema(connection: Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Raise DatabaseRefused unless our tables are there, in the version that we know."""
    if "plcsim_schema" not in _tables(connection, schema):
        raise DatabaseRefused(
            f"database {connection.info.dbname!r} has no plclogger tables in schema {schema!r}"
        )
    version = _version(connection)
    if version != SCHEMA_VERSION:
        advice = "plclogger run brings it forward" if version < SCHEMA_VERSION else "use a newer one"
        raise DatabaseRefused(
            f"schema {schema!r} has version {version}; this plclogger knows {SCHEMA_VERSION}: {advice}"
        )


def _prepare_days(connection: Connection[Any]) -> None:
    """Partitions are the owner's to make: who may only log, logs into those that are there."""
    try:
        create_ahead(connection)
    except InsufficientPrivilege as exc:
        log.warning("partitions of the next days are missing, and not ours to make: %s", first_line(exc))


def _version(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT max(version) FROM plcsim_schema").fetchone()
    assert row is not None
    return row[0] or 0


def _take_time(connection: Connection[Any]) -> None:
    """Wait for another logger that makes the tables; bringing much history forward takes minutes."""
    connection.execute("SET LOCAL lock_timeout = '60s'")
    connection.execute("SET LOCAL statement_timeout = 0")
    if connection.info.server_version >= 170000:
        connection.execute("SET LOCAL transaction_timeout = 0")


def _exists(connection: Connection[Any], schema: str) -> bool:
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (_quoted(schema),)).fetchone()
    return bool(row and row[0])


def _tables(connection: Connection[Any], schema: str) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)::oid"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1",
        (_quoted(schema),),
    ).fetchall()
    return [name for (name,) in rows]


def _quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
