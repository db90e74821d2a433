"""Connects to the database with our session settings; maps psycopg's errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from logger.database.embedded import EmbeddedPostgres
from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable
from logger.repositories.wire import register_arrays

logging.getLogger("psycopg").setLevel(logging.ERROR)  # what goes wrong we say ourselves, in words of ours

DEFAULT_SCHEMA = "public"

# Each timeout frees what the one before cannot: a lock that is not given, a statement that does not end,
# a transaction that its logger has left. A COMMIT that hangs is freed by none of them: that is the
# forwarder's deadline.
_SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "client_min_messages": "warning",
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",  # the server's side: it notices that a logger is gone …
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_NEWER_SERVERS = {"transaction_timeout": (170000, "30s")}
_WHERE_THE_SYSTEM_CAN = {
    "tcp_user_timeout": "20s",
    "client_connection_check_interval": "5s",  # … and that, during a long statement
}
_LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "gssencmode": "disable",
    "target_session_attrs": "read-write",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_REFUSED = re.compile(
    r"(?!failed to resolve)"
    r"(invalid |.*(password|authentication|pg_hba\.conf|not permitted|permission denied|does not exist))"
)
"""What a failure to connect says if trying again does not mend it; libpq gives no SQLSTATE for it."""


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """Connection string of the given database; without one, of the embedded, which runs meanwhile."""
    if url is not None:
        yield checked_conninfo(url)
        return
    with EmbeddedPostgres() as server:
        yield server.conninfo


def checked_conninfo(url: str) -> str:
    """Parse a URL or connection string; raises DatabaseRefused, and never shows a password."""
    refused = DatabaseRefused(
        "--database is not a PostgreSQL URL; it looks like postgresql://USER@HOST:5432/DATABASE "
        "(the password is best left to ~/.pgpass; in a URL its @ is %40, its / is %2F)"
    )
    try:
        given: dict[str, Any] = conninfo_to_dict(url)
    except psycopg.Error:
        raise refused from None
    ports = str(given.get("port") or "5432").split(",")
    if any("@" in str(given.get(key)) for key in ("host", "dbname")) or not all(
        port.isdecimal() and 0 < int(port) <= 65535 for port in ports
    ):
        raise refused  # what libpq takes for a host or a port may be half a password
    return make_conninfo(**given)


def with_defaults(conninfo: str) -> str:
    """A connection string with our settings of libpq where it gives none of its own."""
    given: dict[str, Any] = {**_LIBPQ, "application_name": "plcsim", **conninfo_to_dict(conninfo)}
    return make_conninfo("", **given)


def connect(conninfo: str, schema: str = DEFAULT_SCHEMA, only_reads: bool = False) -> Connection[Any]:
    """Connect in autocommit mode, with our session settings and array types.

    `only_reads`: a standby, or a user who may not write, will do. Raises DatabaseUnreachable or
    DatabaseRefused.
    """
    if not schema:
        raise DatabaseRefused("the name of the schema is empty")
    given = with_defaults(make_conninfo(conninfo, target_session_attrs="any") if only_reads else conninfo)
    try:
        connection = Connection.connect(given, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as exc:
        raise _connect_error(exc, conninfo_to_dict(conninfo)) from None
    try:
        with mapped_errors():
            configure_session(connection, schema)
    except DatabaseError:
        connection.close()
        raise
    return connection


def configure_session(connection: Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Give an open connection in autocommit mode our session settings and array types; a pool's
    `configure`. Raises psycopg.Error."""
    version = connection.info.server_version
    newer = {key: value for key, (since, value) in _NEWER_SERVERS.items() if version >= since}
    _set(connection, {**_SESSION, **newer, "search_path": sql.Identifier(schema).as_string(connection)})
    with suppress(psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
        _set(connection, _WHERE_THE_SYSTEM_CAN)  # not every system's server has them, and no old one
    register_arrays(connection)


def _set(connection: Connection[Any], settings: dict[str, str]) -> None:
    calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
    connection.execute(f"SELECT {calls}".encode(), [part for item in settings.items() for part in item])


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn what psycopg raises into our errors, one line each."""
    try:
        yield
    except psycopg.OperationalError as exc:
        lost = exc.sqlstate is None or exc.sqlstate.startswith(("08", "57P"))
        what = "connection failed" if lost else "cannot do it now"  # locked, out of time, disk full, …
        raise DatabaseUnreachable(f"the database {what}: {first_line(exc)}") from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise DatabaseRefused(f"the database does not allow it: {first_line(exc)}") from exc
    except psycopg.errors.InvalidSchemaName as exc:
        raise DatabaseRefused("the schema is not there, or this user has no right to use it") from exc
    except psycopg.Error as exc:
        raise DatabaseError(f"the database refused: {first_line(exc)}") from exc


def line_of(exc: Exception) -> str:
    """One line that says what happened, of any error."""
    return first_line(exc) if isinstance(exc, psycopg.Error) else str(exc)


def first_line(exc: psycopg.Error) -> str:
    """The first line of an error, which says what happened; the others point into our SQL."""
    text = exc.diag.message_primary or str(exc) or type(exc).__name__
    return text.strip().splitlines()[0]


def _connect_error(exc: psycopg.OperationalError, given: dict[str, Any]) -> DatabaseError:
    where = f"{given.get('host') or 'the local socket'}:{given.get('port') or 5432}"
    reason = str(exc).strip().splitlines()[0]
    reason = re.sub(r"^.*(FATAL|failed|is bad):\s*", "", reason)
    if _REFUSED.match(reason):
        return DatabaseRefused(f"the database at {where} refuses us: {reason}")
    return DatabaseUnreachable(f"the database at {where} cannot be reached: {reason}")
