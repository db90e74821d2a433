"""Connecting and registering devices: refused with one clear line, or done whole."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fix_postgres import Schema
from fix_scans import MAP, Oven
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from logger.database import (
    checked_conninfo,
    configure_session,
    connect,
    mapped_errors,
    record_event,
    register_device,
    register_devices,
    stored_devices,
    with_defaults,
)
from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

Connection = psycopg.Connection[Any]
SECRET = "s3cret"


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
        ({"options": "-c default_transaction_read_only=on"}, DatabaseUnreachable, "session is read-only"),
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


SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "client_connection_check_interval": "5s",
}


def test_session_has_our_settings(schema: Schema) -> None:
    with schema.connect() as connection:
        assert connection.autocommit
        newer = {"transaction_timeout": "30s"} if connection.info.server_version >= 170000 else {}
        for key, value in {**SETTINGS, **newer}.items():
            assert connection.execute(f"SHOW {key}".encode()).fetchone() == (value,), key
        assert connection.execute("SELECT current_schema()").fetchone() == (schema.name,)


def test_a_pool_can_give_its_connections_the_same(schema: Schema) -> None:
    with psycopg.connect(with_defaults(schema.conninfo), autocommit=True) as connection:
        configure_session(connection, schema.name)
        for key, value in SETTINGS.items():
            assert connection.execute(f"SHOW {key}".encode()).fetchone() == (value,), key


def test_given_settings_of_the_connection_are_kept() -> None:
    given = conninfo_to_dict(with_defaults("host=h connect_timeout=9 application_name=x"))
    assert (given["connect_timeout"], given["application_name"]) == ("9", "x")
    assert given["target_session_attrs"] == "read-write"


def test_transaction_that_its_logger_left_gives_its_locks_back(schema: Schema) -> None:
    """What the server does by itself; longer times of the same kind are what a session is given."""
    schema.rows("CREATE TABLE locked ()")
    with schema.connect() as zombie, schema.connect() as next_one:
        zombie.execute("SET idle_in_transaction_session_timeout = '100ms'")
        zombie.execute("BEGIN")
        zombie.execute("LOCK TABLE locked")
        next_one.execute("INSERT INTO locked DEFAULT VALUES")
        with pytest.raises(psycopg.Error):
            zombie.execute("SELECT 1")


def test_schema_needs_a_name(postgres: str) -> None:
    with pytest.raises(DatabaseRefused, match="name of the schema is empty"):
        connect(postgres, "")


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


def test_many_devices_are_registered_together(schema: Schema) -> None:
    ovens = [Oven(f"oven-{n}").config for n in range(120)]
    with schema.connect() as connection:
        register_devices(connection, ovens[60:])
        register_devices(connection, ovens)
        register_devices(connection, [])
        assert {config.device.device_id for config in stored_devices(connection)} == {
            oven.device.device_id for oven in ovens
        }
    assert schema.value("SELECT count(*) FROM component_parameters") == 120 * 5
    one, another = (
        schema.rows("SELECT parameter_id, component, name, unit, low_limit, high_limit"
                    " FROM component_parameters WHERE device_id = %s ORDER BY 1", device_id)
        for device_id in ("oven-0", "oven-119")
    )  # fmt: skip
    assert one == another
    assert (12, "oven", "heat", "degC", 0.0, 300.0) in one


def test_parameter_that_an_older_plclogger_did_not_log_is_entered(schema: Schema) -> None:
    with schema.connect() as connection:
        register_device(connection, Oven().config)
        schema.rows("UPDATE component_parameters SET scan = 7")
        schema.rows("DELETE FROM component_parameters WHERE parameter_id = 12")
        register_device(connection, Oven().config)
    assert schema.rows("SELECT parameter_id, scan FROM component_parameters ORDER BY 1") == [
        (10, 7), (11, 7), (12, 0), (13, 7), (14, 7),
    ]  # fmt: skip


def test_loggers_that_register_the_same_devices_at_once_do_not_lock_each_other_out(schema: Schema) -> None:
    ovens = [Oven(f"oven-{n}").config for n in range(60)]
    orders = [ovens, ovens[::-1], ovens[30:] + ovens[:30], ovens[::2] + ovens[1::2]]
    ready = Barrier(len(orders))

    def register(order: list[DeviceConfig]) -> None:
        with schema.connect() as connection:
            ready.wait(30)
            register_devices(connection, order)

    with ThreadPoolExecutor(len(orders)) as loggers:
        list(loggers.map(register, orders))
    assert schema.value("SELECT count(*) FROM component_parameters") == 60 * 5


def test_event_is_recorded_once_however_often_it_is_sent(schema: Schema) -> None:
    event, at = uuid4(), datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with schema.connect() as connection:
        for _ in range(2):
            record_event(connection, at, "host", "clock step", "the clock was set by -3 s\0", event)
    assert schema.rows("TABLE logger_events") == [
        (event, at, "host", "clock step", "the clock was set by -3 s?")
    ]


def test_device_with_another_map_is_refused(schema: Schema) -> None:
    other = parse_device({"device": {"device_id": "oven-1", "seed": 5}, **MAP})
    with schema.connect() as connection:
        register_device(connection, Oven().config)
        before = schema.contents()
        with pytest.raises(DatabaseRefused, match="'oven-1' is in this database with another parameter map"):
            register_device(connection, other)
    assert schema.contents() == before


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseUnreachable, "connection failed: "),
        ("SET statement_timeout = 1; SELECT pg_sleep(9)", DatabaseUnreachable, "cannot do it now: canceling"),
        ("SELECT 1 / 0", DatabaseError, "refused: division by zero"),
        ("SELECT nothing\nFROM nowhere", DatabaseError, "refused: relation"),
    ],
)
def test_errors_of_the_database_become_one_line(
    schema: Schema, statement: str, error: type[DatabaseError], message: str
) -> None:
    with schema.connect() as connection, pytest.raises(error, match=message) as failed, mapped_errors():
        connection.execute(statement.encode())
    assert "\n" not in str(failed.value)
    assert failed.value.exit_code == 1
