"""Making our tables: done whole or not at all, once, in a schema that is empty or ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import psycopg
import pytest
from fix_postgres import TABLES, Schema
from fix_scans import BAKING, START_US, Oven
from psycopg import sql
from psycopg.conninfo import make_conninfo

from logger.database import (
    connect,
    create_partitions,
    create_partitions_for,
    prepare_schema,
    register_device,
    require_schema,
)
from logger.database.maintenance import maintain
from logger.database.partitions import DAYS_AHEAD, partitions
from logger.database.retention import Retention
from logger.errors import DatabaseError, DatabaseRefused
from logger.repositories import SynchronizingRepository
from logger.scan import StreamKey

Connection = psycopg.Connection[Any]


@pytest.fixture
def empty(postgres: str) -> Iterator[tuple[Connection, str]]:
    """A connection, and the name of a schema that does not exist yet; it is dropped after."""
    name = f"made_{os.getpid()}"
    with connect(postgres, name) as connection:
        yield connection, name
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def tables(connection: Connection, schema: str) -> list[str]:
    """And views."""
    query = (
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p', 'v')"
    )
    return sorted(name for (name,) in connection.execute(query, (schema,)))


def log_a_scan(connection: Connection) -> None:
    batch = Oven().batch(Oven().scan(1, BAKING))
    create_partitions_for(connection, batch.recorded_at)
    SynchronizingRepository(connection).open(StreamKey("oven-1")).store(batch)


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
        log_a_scan(connection)
        maintain(connection, datetime(2023, 12, 1, tzinfo=UTC), Retention(keep_days=10))
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


@pytest.mark.parametrize("version", [99, 3])
def test_tables_of_a_newer_version_are_left_alone(schema: Schema, version: int) -> None:
    schema.rows("INSERT INTO plcsim_schema (version) VALUES (%s)", version)
    before = schema.contents()
    with schema.connect() as connection:
        for look in (prepare_schema, require_schema):
            with pytest.raises(DatabaseRefused, match=f"has version {version}; .* knows 2: use a newer one"):
                look(connection, schema.name)
    assert schema.contents() == before


def test_tables_that_only_look_like_ours_are_left_alone(empty: tuple[Connection, str]) -> None:
    connection, name = empty
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connection.execute("CREATE TABLE plcsim_schema (version integer)")
    with pytest.raises(DatabaseRefused, match="has version 0"):
        prepare_schema(connection, name)
    assert tables(connection, name) == ["plcsim_schema"]


def test_loggers_that_start_at_once_on_nothing_share_what_one_makes(
    postgres: str, empty: tuple[Connection, str]
) -> None:
    loggers = 6
    ready = Barrier(loggers)

    def start(_: int) -> None:
        with connect(postgres, empty[1]) as connection:
            ready.wait(30)
            prepare_schema(connection, empty[1])
            register_device(connection, Oven().config)
            require_schema(connection, empty[1])

    with ThreadPoolExecutor(loggers) as pool:
        list(pool.map(start, range(loggers)))
    assert empty[0].execute("SELECT version FROM plcsim_schema").fetchall() == [(2,)]
    assert empty[0].execute("SELECT count(*) FROM component_parameters").fetchone() == (5,)


def newest_partition(connection: Connection) -> str:
    return partitions(connection)[-1].name


def test_user_who_may_only_log_needs_no_more_than_that(
    empty: tuple[Connection, str],
    limited: tuple[Connection, Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tables are another's, and ready: a logger asks for no right that it does not use."""
    name, (owner, connection) = empty[1], limited
    prepare_schema(owner, name)
    create_partitions(owner, START_US, START_US)
    names = sql.Identifier(name), sql.Identifier(connection.info.user)
    owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(*names))
    owner.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {} TO {}").format(*names))
    prepare_schema(connection, name)
    assert caplog.messages == []
    register_device(connection, Oven().config)
    log_a_scan(connection)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # other days are the owner's to make
        create_partitions(connection, 0, 0)
    report = maintain(connection)
    assert report.warnings == [
        f'acting as the owner of the tables: permission denied to set role "{owner.info.user}"'
    ]
    assert report.days_ahead == DAYS_AHEAD
    report = maintain(connection, datetime.now(UTC) + timedelta(days=1))
    assert report.days_ahead == DAYS_AHEAD - 1
    assert "there are partitions for 1 of the next 2 days" in report.warnings
    owner.execute(f"DROP TABLE {newest_partition(owner)}".encode())
    caplog.clear()
    prepare_schema(connection, name)
    assert "partitions of the next days are missing, and not ours to make" in caplog.text
    assert connection.execute("SHOW role").fetchone() == ("none",)


def test_schema_without_our_tables_is_not_read(empty: tuple[Connection, str]) -> None:
    with pytest.raises(DatabaseRefused, match="has no plclogger tables"):
        require_schema(*empty)


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


def test_user_who_may_not_create_schemas_is_told(limited: tuple[Connection, Connection]) -> None:
    _, connection = limited
    with pytest.raises(DatabaseRefused, match="does not allow it: permission denied for database") as refused:
        prepare_schema(connection, f"another_{os.getpid()}")
    assert refused.value.exit_code == 2


def test_rights_on_the_schema_alone_are_enough(
    empty: tuple[Connection, str], limited: tuple[Connection, Connection]
) -> None:
    name, (owner, connection) = empty[1], limited
    for right in ("CREATE", "USAGE"):
        grant(owner, right, name, connection.info.user)
    prepare_schema(connection, name)
    register_device(connection, Oven().config)
    log_a_scan(connection)
    assert maintain(connection).ran
