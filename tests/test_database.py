"""Connecting, making our tables and registering devices: refused with one clear line, or done whole."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fix_postgres import TABLES, Schema
from fix_scans import BAKING, MAP, Oven
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from logger.database import (
    checked_conninfo,
    connect,
    mapped_errors,
    prepare_schema,
    register_device,
    require_schema,
    stored_devices,
)
from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable
from logger.repositories import SynchronizingRepository
from plcsim.device_file import parse_device

Connection = psycopg.Connection[Any]
SECRET = "s3cret"


@pytest.fixture
def empty(postgres: str) -> Iterator[tuple[Connection, str]]:
    """A connection, and the name of a schema that does not exist yet; it is dropped after."""
    name = f"made_{os.getpid()}"
    with connect(postgres, name) as connection:
        yield connection, name
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def tables(connection: Connection, schema: str) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'"
    return sorted(name for (name,) in connection.execute(query, (schema,)))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@host:port/db",
        f"postgresql://u:{SECRET}@host:99999/db",
        f"postgresql://u:{SECRET}@host:0/db",
        f"postgresql://u:{SECRET}@{SECRET}@host/db",
        f"postgresql://u:{SECRET}/{SECRET}@host/db",
        f"postgresql://u:{SECRET}@host/db?nonsense=1",
        f"postgresql://u:{SECRET}%zz@host/db",
        f"postgres://u:{SECRET} {SECRET}@host/db",
        f"http://u:{SECRET}@host/db",
        f"host=h password={SECRET} {SECRET}",
        "nonsense",
    ],
)
def test_malformed_url_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(DatabaseRefused, match="--database is not a PostgreSQL URL") as refused:
        checked_conninfo(url)
    assert SECRET not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://u@h:5433/d", {"user": "u", "host": "h", "port": "5433", "dbname": "d"}),
        ("postgresql:///d?host=/run/x", {"host": "/run/x", "dbname": "d"}),
        ("postgresql://u:p%40ss%2F@h/d", {"user": "u", "password": "p@ss/", "host": "h", "dbname": "d"}),
        ("postgresql://h1:1,h2:2/d", {"host": "h1,h2", "port": "1,2", "dbname": "d"}),
        ("host=h dbname=d", {"host": "h", "dbname": "d"}),
    ],
)
def test_url_or_connection_string_is_taken(url: str, parts: dict[str, str]) -> None:
    assert conninfo_to_dict(checked_conninfo(url)) == parts


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"dbname": "nowhere"}, DatabaseRefused, 'database "nowhere" does not exist'),
        ({"user": "nobody"}, DatabaseRefused, 'role "nobody" does not exist'),
        ({"sslmode": "bogus"}, DatabaseRefused, "invalid sslmode value"),
        ({"host": "/nowhere"}, DatabaseUnreachable, "No such file or directory"),
        ({"host": "no.such.host.invalid"}, DatabaseUnreachable, "resolve host"),
    ],
)
def test_failure_to_connect_says_where_and_why(
    postgres: str, changed: dict[str, str], error: type[DatabaseError], message: str
) -> None:
    conninfo = make_conninfo(postgres, **changed)
    with pytest.raises(error, match=r"^the database at ") as failed:
        connect(make_conninfo(conninfo, password=SECRET))
    assert message in str(failed.value)
    assert SECRET not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(
            DatabaseUnreachable, match=f"127.0.0.1:{port} cannot be reached: Connection refused"
        ):
            connect(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")


def test_session_has_our_settings(schema: Schema) -> None:
    with schema.connect() as connection:
        assert connection.autocommit
        for key, value in {"timezone": "UTC", "statement_timeout": "10s", "lock_timeout": "5s"}.items():
            assert connection.execute(f"SHOW {key}".encode()).fetchone() == (value,)
        assert connection.execute("SELECT current_schema()").fetchone() == (schema.name,)


def test_tables_are_made_once_and_found_again(empty: tuple[Connection, str]) -> None:
    connection, name = empty
    prepare_schema(connection, name)
    made = tables(connection, name)
    assert set(TABLES) < set(made)
    prepare_schema(connection, name)
    require_schema(connection, name)
    assert tables(connection, name) == made


def test_names_that_need_quotes_are_quoted(postgres: str) -> None:
    name = f'O\'Brien "x"; drop {os.getpid()}'
    with connect(postgres, name) as connection:
        prepare_schema(connection, name)
        register_device(connection, Oven().config)
        repository = SynchronizingRepository(connection, "oven-1")
        repository.store(Oven().batch(Oven().scan(1, BAKING)))
        assert connection.execute("SELECT count(*) FROM process_data_points").fetchone() == (5,)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def test_failure_while_tables_are_made_leaves_nothing(empty: tuple[Connection, str]) -> None:
    connection, name = empty
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connection.execute("CREATE FUNCTION refuse_change() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(DatabaseError, match="refuse_change"):  # the last thing but one that is made
        prepare_schema(connection, name)
    assert tables(connection, name) == []
    connection.execute("DROP FUNCTION refuse_change()")
    prepare_schema(connection, name)


@pytest.mark.parametrize("kind", ["TABLE theirs ()", "VIEW theirs AS SELECT 1"])
def test_somebody_elses_tables_are_left_alone(empty: tuple[Connection, str], kind: str) -> None:
    connection, name = empty
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connection.execute(f"CREATE {kind}".encode())
    before = tables(connection, name)
    with pytest.raises(DatabaseRefused, match=r"somebody else's tables \(theirs\)") as refused:
        prepare_schema(connection, name)
    assert refused.value.exit_code == 2
    assert tables(connection, name) == before


def test_tables_of_another_version_are_left_alone(schema: Schema) -> None:
    schema.rows("INSERT INTO plcsim_schema (version) VALUES (99)")
    before = schema.contents()
    with schema.connect() as connection, pytest.raises(DatabaseRefused, match=r"has version 99; .* knows 1"):
        prepare_schema(connection, schema.name)
    assert schema.contents() == before


def test_schema_without_our_tables_is_not_read(empty: tuple[Connection, str]) -> None:
    with pytest.raises(DatabaseRefused, match="has no plclogger tables"):
        require_schema(*empty)


def test_schema_needs_a_name(postgres: str) -> None:
    with pytest.raises(DatabaseRefused, match="name of the schema is empty"):
        connect(postgres, "")


@pytest.fixture
def limited(postgres: str, empty: tuple[Connection, str]) -> Iterator[tuple[Connection, Connection]]:
    """The owner's connection, and one of a role that may do nothing yet."""
    owner, name = empty
    role = f"limited_{os.getpid()}"
    owner.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'limited'").format(sql.Identifier(role)))
    with connect(make_conninfo(postgres, user=role, password="limited"), name) as connection:
        yield owner, connection
    owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
    owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def grant(owner: Connection, right: str, schema: str, role: str) -> None:
    names = sql.Identifier(schema), sql.Identifier(role)
    owner.execute(sql.SQL("GRANT {} ON SCHEMA {} TO {}").format(sql.SQL(right), *names))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("granted", "message"),
    [([], "no right to use it"), (["USAGE"], "does not allow it: permission denied for schema")],
)
def test_rights_that_are_missing_are_named(
    empty: tuple[Connection, str],
    limited: tuple[Connection, Connection],
    granted: list[str],
    message: str,
) -> None:
    name, (owner, connection) = empty[1], limited
    for right in granted:
        grant(owner, right, name, connection.info.user)
    with pytest.raises(DatabaseRefused, match=message):
        prepare_schema(connection, name)
    assert tables(owner, name) == []


def test_rights_on_the_schema_alone_are_enough(
    empty: tuple[Connection, str], limited: tuple[Connection, Connection]
) -> None:
    name, (owner, connection) = empty[1], limited
    for right in ("CREATE", "USAGE"):
        grant(owner, right, name, connection.info.user)
    prepare_schema(connection, name)
    register_device(connection, Oven().config)
    SynchronizingRepository(connection, "oven-1").store(Oven().batch(Oven().scan(1, BAKING)))


def test_device_is_registered_once_and_comes_back_as_it_was(schema: Schema) -> None:
    config = Oven().config
    with schema.connect() as connection:
        register_device(connection, config)
        before = schema.contents()
        register_device(connection, config)
        assert schema.contents() == before
        (stored,) = stored_devices(connection)
    assert stored.sha256 == config.sha256
    assert stored.register_map == config.register_map


def test_device_that_moved_to_another_host_is_the_same(schema: Schema) -> None:
    moved = parse_device({"device": {"device_id": "oven-1"}, "modbus": {"host": "10.0.0.9"}, **MAP})
    with schema.connect() as connection:
        register_device(connection, Oven().config)
        register_device(connection, moved)


def test_device_with_another_map_is_refused(schema: Schema) -> None:
    other = parse_device({"device": {"device_id": "oven-1", "seed": 5}, **MAP})
    with schema.connect() as connection:
        register_device(connection, Oven().config)
        before = schema.contents()
        with pytest.raises(DatabaseRefused, match="'oven-1' is in this database with another parameter map"):
            register_device(connection, other)
    assert schema.contents() == before


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseUnreachable),
        ("SELECT 1 / 0", DatabaseError),
        ("SELECT nothing\nFROM nowhere", DatabaseError),
    ],
)
def test_errors_of_the_database_become_one_line(
    schema: Schema, statement: str, error: type[DatabaseError]
) -> None:
    with schema.connect() as connection, pytest.raises(error) as failed, mapped_errors():
        connection.execute(statement.encode())
    assert "\n" not in str(failed.value)
    assert failed.value.exit_code == 1
