"""Every class of failure, brought about in a real database, and told from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from fix_postgres import Schema
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from bench.arms.pool import open_pool
from bench.load.failures import DATABASE_ERRORS, MAY_SUCCEED_LATER, Failure, failure_of, reason_of
from logger.database import connect, mapped_errors
from logger.errors import DatabaseError, DatabaseUnreachable, StreamMoved


def failed(action: Callable[[], object]) -> Exception:
    """What an action raises."""
    with pytest.raises(DATABASE_ERRORS) as raised:
        action()
    return raised.value


def two_rows(schema: Schema) -> tuple[psycopg.Connection[Any], psycopg.Connection[Any]]:
    schema.rows("CREATE TABLE t (id integer PRIMARY KEY, n integer)")
    schema.rows("INSERT INTO t VALUES (1, 0), (2, 0)")
    return schema.connect(), schema.connect()


def change(connection: psycopg.Connection[Any], row: int) -> None:
    connection.execute("UPDATE t SET n = n + 1 WHERE id = %s", (row,))


def test_a_deadlock(schema: Schema) -> None:
    one, two = two_rows(schema)
    errors: list[Exception] = []
    for connection in (one, two):
        connection.execute("SET deadlock_timeout = '20ms'; SET lock_timeout = 0")
        connection.execute("BEGIN")
    change(one, 1)
    change(two, 2)

    def second() -> None:
        try:
            change(two, 1)
        except psycopg.Error as exc:
            errors.append(exc)
            two.rollback()

    thread = threading.Thread(target=second)
    thread.start()
    try:
        change(one, 2)
    except psycopg.Error as exc:
        errors.append(exc)
        one.rollback()
    thread.join()
    (error,) = errors
    assert (failure_of(error), reason_of(error)) == (Failure.DEADLOCK, "40P01")


def test_a_serialization_failure(schema: Schema) -> None:
    one, two = two_rows(schema)
    one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    one.execute("SELECT * FROM t")
    change(two, 1)
    assert failure_of(failed(lambda: change(one, 1))) is Failure.SERIALIZATION


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
def test_a_limit_of_time(schema: Schema, limit: str) -> None:
    one, two = two_rows(schema)
    two.execute(f"SET {limit} = '20ms'".encode())
    one.execute("BEGIN")
    change(one, 1)
    assert failure_of(failed(lambda: change(two, 1))) is Failure.STATEMENT_TIMEOUT


def test_too_many_connections_of_a_user_and_no_connection_at_all(schema: Schema, postgres: str) -> None:
    role = f"few_{schema.name}"
    schema.rows(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    try:
        conninfo = make_conninfo(postgres, user=role)
        with psycopg.connect(conninfo):
            assert failure_of(failed(lambda: connect(conninfo))) is Failure.TOO_MANY_CONNECTIONS
            assert failure_of(failed(lambda: psycopg.connect(conninfo))) is Failure.TOO_MANY_CONNECTIONS
    finally:
        wait_for(lambda: not schema.rows("SELECT 1 FROM pg_stat_activity WHERE usename = %s", role))
        schema.rows(f"DROP ROLE {role}")
    nowhere = failed(lambda: connect("postgresql://127.0.0.1:1/x"))
    assert (failure_of(nowhere), reason_of(nowhere)) == (Failure.CONNECTION_LOST, "DatabaseUnreachable")


def test_a_pool_that_is_empty(schema: Schema) -> None:
    pool = open_pool(schema.conninfo, schema.name, 1, timeout_s=0.1)
    try:
        pool.wait()
        taken = pool.getconn()
        assert failure_of(failed(pool.getconn)) is Failure.POOL_TIMEOUT
        first, second = pool.take_waits_ns()
        assert first < 50_000_000 < 100_000_000 <= second
        assert pool.take_waits_ns() == []
        pool.putconn(taken)
    finally:
        pool.close()


def test_a_connection_that_is_lost_and_one_that_is_closed(schema: Schema) -> None:
    connection = schema.connect()
    schema.rows("SELECT pg_terminate_backend(%s, 5000)", connection.info.backend_pid)
    assert failure_of(failed(lambda: connection.execute("SELECT 1"))) is Failure.CONNECTION_LOST
    assert failure_of(failed(lambda: connection.execute("SELECT 1"))) is Failure.CONNECTION_LOST


def test_whatever_else_the_database_says_no_to(schema: Schema) -> None:
    one, _ = two_rows(schema)
    error = failed(lambda: one.execute("INSERT INTO t VALUES (1, 1)"))
    assert (failure_of(error), reason_of(error)) == (Failure.REFUSED, "23505")
    assert failure_of(StreamMoved("another writer")) is Failure.REFUSED
    assert MAY_SUCCEED_LATER.isdisjoint({Failure.REFUSED, Failure.OK, Failure.RETRIED, Failure.SKIPPED})


def test_an_error_of_ours_is_of_the_class_that_it_was_raised_from(schema: Schema) -> None:
    one, two = two_rows(schema)
    one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    one.execute("SELECT * FROM t")
    change(two, 1)

    def mapped() -> None:
        with mapped_errors():
            change(one, 1)

    error = failed(mapped)
    assert isinstance(error, DatabaseError)
    assert not isinstance(error, psycopg.Error)
    assert (failure_of(error), reason_of(error)) == (Failure.SERIALIZATION, "40001")
    assert failure_of(DatabaseUnreachable("away")) is Failure.CONNECTION_LOST
