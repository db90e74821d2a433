"""The deadline of our own: a frozen server process, a call that takes too long, a call in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg
import pytest
from fix_forwarder import SETTINGS, Start, as_logged, stored_values
from fix_postgres import Schema
from fix_scans import Oven
from waiting import wait_for

from logger.forwarding.deadline import Watchdog


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    made = Watchdog(0.2, grace_s=0.2)
    made.start()
    yield made
    made.close()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A server process that does nothing: the kernel goes on answering for it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_call_in_time_is_left_alone(schema: Schema, watchdog: Watchdog) -> None:
    connection = schema.connect()
    deadline = watchdog.watch(connection)
    for _ in range(3):
        with deadline:
            connection.execute("SELECT pg_sleep(0.12)")
    connection.execute("SELECT pg_sleep(0.5)")  # without a deadline
    assert deadline.cuts == 0
    watchdog.forget(deadline)


def test_call_that_takes_too_long_is_cancelled_and_the_connection_kept(
    schema: Schema, watchdog: Watchdog
) -> None:
    connection = schema.connect()
    deadline = watchdog.watch(connection)
    with pytest.raises(psycopg.errors.QueryCanceled), deadline:
        connection.execute("SELECT pg_sleep(10)")
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert deadline.cuts == 0
    watchdog.forget(deadline)


def test_frozen_server_process_is_given_up(schema: Schema, watchdog: Watchdog) -> None:
    connection = schema.connect()
    deadline = watchdog.watch(connection)
    started = time.monotonic()
    with frozen(connection.info.backend_pid), pytest.raises(psycopg.OperationalError), deadline:
        connection.execute("SELECT 1")
    assert deadline.cuts == 1
    assert time.monotonic() - started < 5
    watchdog.forget(deadline)


def test_frozen_server_process_holds_a_thread_that_has_no_deadline(schema: Schema) -> None:
    """The negative control: keepalives and statement_timeout do not free it."""
    connection = schema.connect()
    connection.execute("SET statement_timeout = '100ms'")
    ended = threading.Event()

    def call() -> None:
        with suppress(psycopg.Error):
            connection.execute("SELECT pg_sleep(1)")
        ended.set()

    thread = threading.Thread(target=call)
    with frozen(connection.info.backend_pid):
        thread.start()
        assert not ended.wait(1.5)
    thread.join(10)
    assert ended.is_set()


@pytest.mark.parametrize("moment", ["idle", "in the commit"])
def test_forwarder_recovers_from_a_frozen_backend_within_its_deadline(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Frozen while idle it holds nothing; in the commit it holds the stream's row until it goes on."""
    monkeypatch.setattr("logger.forwarding.forwarder.GRACE_S", 0.3)
    run = storing(settings=replace(SETTINGS, deadline_s=0.5)).start()
    run.put(oven.scan(1))
    run.until_stored()
    pid = run.forwarder._writers[0]._connection.info.backend_pid  # type: ignore[union-attr]
    if moment == "in the commit":
        schema.rows(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        schema.rows(
            "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON logging_transactions"
            " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()"
        )
        run.put(oven.scan(2))
        lingers = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        wait_for(lambda: schema.value(lingers, pid), what="the commit")
    with frozen(pid):
        schema.rows("DROP TRIGGER IF EXISTS linger ON scan_gaps")  # another connection is well
        if moment == "idle":
            run.put(oven.scan(2))
            run.until_stored()  # on another connection, while the first is still frozen
        else:
            wait_for(lambda: run.forwarder.figures().reconnects, 5, "another connection")
            assert run.waits() == 1
    run.put(oven.scan(3))
    run.until_stored()
    assert run.close() == 0
    assert stored_values(schema) == as_logged(oven.run_of(1, 3))
    assert run.scans_told == [1, 2, 3]
