"""Connects to the database, makes our tables in it and registers devices; maps psycopg's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from logger.database.embedded import EmbeddedPostgres
from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable
from logger.repositories.wire import register_arrays
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

SCHEMA_VERSION = 1
DEFAULT_SCHEMA = "public"

_SESSION = {
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "client_min_messages": "warning",
}
_LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "gssencmode": "disable",
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

_SCHEMA_LOCK = 0x706C6373  # "plcs": held while tables are made


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


def connect(conninfo: str, schema: str = DEFAULT_SCHEMA) -> Connection[Any]:
    """Connect in autocommit mode, with our session settings and array types.

    Raises DatabaseUnreachable or DatabaseRefused.
    """
    if not schema:
        raise DatabaseRefused("the name of the schema is empty")
    given: dict[str, Any] = {**_LIBPQ, "application_name": "plcsim", **conninfo_to_dict(conninfo)}
    try:
        connection = Connection.connect(make_conninfo("", **given), autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as exc:
        raise _connect_error(exc, given) from None
    settings = {**_SESSION, "search_path": _quoted(schema)}
    try:
        with mapped_errors():
            for key, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (key, value))
    except DatabaseError:
        connection.close()
        raise
    register_arrays(connection)
    return connection


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn what psycopg raises into our errors, one line each."""
    try:
        yield
    except psycopg.OperationalError as exc:
        raise DatabaseUnreachable(f"the database connection failed: {first_line(exc)}") from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise DatabaseRefused(f"the database does not allow it: {first_line(exc)}") from exc
    except psycopg.errors.InvalidSchemaName as exc:
        raise DatabaseRefused("the schema is not there, or this user has no right to use it") from exc
    except psycopg.Error as exc:
        raise DatabaseError(f"the database refused: {first_line(exc)}") from exc


def prepare_schema(connection: Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Make our tables in the schema unless they are there already.

    Raises DatabaseRefused if the schema holds tables that are not ours, or ours of another version;
    then nothing was changed.
    """
    with mapped_errors(), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        tables = _tables(connection, schema)
        if not tables:
            if not _exists(connection, schema):  # IF NOT EXISTS would ask for the right to create it
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(files("logger.database").joinpath("schema.sql").read_bytes())
        elif "plcsim_schema" not in tables:
            raise DatabaseRefused(
                f"schema {schema!r} of database {connection.info.dbname!r} holds somebody else's "
                f"tables ({_some(tables)}); name an empty one with --schema"
            )
        else:
            require_schema(connection, schema)


def require_schema(connection: Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Raise DatabaseRefused unless our tables are there, in the version that we know."""
    if "plcsim_schema" not in _tables(connection, schema):
        raise DatabaseRefused(
            f"database {connection.info.dbname!r} has no plclogger tables in schema {schema!r}"
        )
    row = connection.execute("SELECT max(version) FROM plcsim_schema").fetchone()
    if row is None or row[0] != SCHEMA_VERSION:
        raise DatabaseRefused(
            f"schema {schema!r} has version {row and row[0]}; this plclogger knows {SCHEMA_VERSION}"
        )


def register_device(connection: Connection[Any], config: DeviceConfig) -> None:
    """Enter a device and what is logged of it; DatabaseRefused if it is there with another map.

    Stored values are only as good as the map that decoded them, so one device_id keeps one map.
    """
    device = config.device
    with mapped_errors(), connection.transaction():
        connection.execute(
            "INSERT INTO devices (device_id, name, configuration, configuration_sha256)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (device_id) DO NOTHING",
            (device.device_id, device.name, Jsonb(config.to_json()), config.sha256),
        )
        row = connection.execute(
            "SELECT configuration_sha256 FROM devices WHERE device_id = %s", (device.device_id,)
        ).fetchone()
        if row is None or row[0] != config.sha256:
            raise DatabaseRefused(
                f"device {device.device_id!r} is in this database with another parameter map; give "
                "the changed one a device_id of its own"
            )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO component_parameters (device_id, parameter_id, component, name, unit,"
                " low_limit, high_limit) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [
                    (
                        device.device_id,
                        p.parameter_id,
                        p.component,
                        p.name,
                        p.unit,
                        *(p.limits or (None, None)),
                    )
                    for p in config.register_map.logged
                ],
            )


def stored_devices(connection: Connection[Any]) -> list[DeviceConfig]:
    """Configurations of all devices that were logged into this schema."""
    rows = connection.execute("SELECT device_id, configuration FROM devices ORDER BY 1").fetchall()
    return [parse_device(data, f"stored configuration of {device}") for device, data in rows]


def first_line(exc: psycopg.Error) -> str:
    """The first line of an error, which says what happened; the others point into our SQL."""
    text = exc.diag.message_primary or str(exc) or type(exc).__name__
    return text.strip().splitlines()[0]


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


def _connect_error(exc: psycopg.OperationalError, given: dict[str, Any]) -> DatabaseError:
    where = f"{given.get('host') or 'the local socket'}:{given.get('port') or 5432}"
    reason = str(exc).strip().splitlines()[0]
    reason = re.sub(r"^.*(FATAL|failed|is bad):\s*", "", reason)
    if _REFUSED.match(reason):
        return DatabaseRefused(f"the database at {where} refuses us: {reason}")
    return DatabaseUnreachable(f"the database at {where} cannot be reached: {reason}")
