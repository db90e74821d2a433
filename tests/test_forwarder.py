"""The forwarder in calm: order, batches, back-pressure, draining, and giving up when it must."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import BAKING, Oven
from waiting import wait_for, wait_for_async

from logger.database import connect
from logger.errors import DatabaseUnreachable, StreamMoved
from logger.forwarding.forwarder import Forwarder, Stored
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.scan import Gap

Start = Callable[..., Forwarder]


@pytest.fixture
def opened(schema: Schema, oven: Oven) -> Iterator[Start]:
    """Makes forwarders of the oven's stream; they are closed with the test."""
    schema.repository(BaselineRepository, oven.config)
    with ExitStack() as stack:

        def make(through: Proxy | None = None, **more: object) -> Forwarder:
            conninfo = through.conninfo if through else schema.conninfo

            def open_repository() -> Repository:
                connection = connect(conninfo, schema.name)
                return SynchronizingRepository(connection, "oven-1", 1, "bake")

            forwarder = Forwarder(open_repository, oven.layout, **more)  # type: ignore[arg-type]
            stack.callback(forwarder.close, 0)
            return forwarder

        yield make


def ledger(schema: Schema) -> list[tuple[int, int]]:
    return schema.rows("SELECT first_scan, last_scan FROM logging_transactions ORDER BY first_scan")


def fill_the_disk(schema: Schema) -> None:
    """Let every transaction fail as if there were no space left."""
    schema.rows(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"
    )
    schema.rows("CREATE TRIGGER full_disk BEFORE INSERT ON logging_transactions EXECUTE FUNCTION full_disk()")


def test_scans_that_wait_go_into_as_few_transactions_as_allowed(
    schema: Schema, oven: Oven, opened: Start
) -> None:
    stored: list[Stored] = []
    forwarder = opened(on_stored=stored.append)
    for scan in oven.run_of(1, 50):
        forwarder.put(scan)
    forwarder.start()
    assert forwarder.close() == 0
    assert ledger(schema) == [(1, 20), (21, 40), (41, 50)]
    assert [scan.number for each in stored for scan in each.scans] == list(range(1, 51))
    assert all(each.started_ns < each.committed_ns for each in stored)
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 250


def test_transaction_ends_where_a_process_does_and_at_a_gap(
    schema: Schema, oven: Oven, opened: Start
) -> None:
    forwarder = opened(max_scans_a_batch=3)
    items = [
        *oven.run_of(1, 2),
        *oven.run_of(3, 6, BAKING),
        *oven.run_of(7, 7, BAKING + 1),
        Gap(8, 11, "missed"),
        Gap(12, 12, "missed"),
        *oven.run_of(13, 14, BAKING + 1),
    ]
    for item in items:
        forwarder.put(item)
    forwarder.start()
    assert forwarder.close() == 0
    assert ledger(schema) == [(1, 2), (3, 5), (6, 6), (7, 7), (8, 11), (12, 12), (13, 14)]
    assert schema.rows("SELECT first_scan, last_scan FROM scan_gaps ORDER BY 1") == [(8, 11), (12, 12)]
    assert schema.rows(
        "SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions ORDER BY 2"
    ) == [(BAKING, 3, False), (BAKING + 1, 7, True)]


def test_next_forwarder_goes_on_where_the_last_one_stopped(schema: Schema, oven: Oven, opened: Start) -> None:
    first = opened()
    assert (first.next_scan, first.process_number) == (1, None)
    first.start()
    for scan in oven.run_of(1, 3, BAKING):
        first.put(scan)
    first.close()
    second = opened()
    assert (second.next_scan, second.process_number) == (4, BAKING)
    second.start()
    second.put(oven.scan(4, BAKING))
    assert second.close() == 0
    assert schema.value("SELECT count(DISTINCT process_id) FROM process_data_points") == 1


@pytest.mark.parametrize("end", ["room", "stop", "failure"])
def test_waiting_for_room_ends(schema: Schema, oven: Oven, opened: Start, end: str) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        forwarder = opened(max_waiting=2)
        forwarder.put(oven.scan(1))
        await asyncio.wait_for(forwarder.wait_for_room(stop), 1)
        forwarder.put(oven.scan(2))
        waiting = asyncio.ensure_future(forwarder.wait_for_room(stop))
        await asyncio.wait({waiting}, timeout=0.05)
        assert not waiting.done()
        if end == "stop":
            stop.set()
        elif end == "failure":
            schema.rows("DELETE FROM logging_streams")
            forwarder.start()
        else:
            forwarder.start()
        await asyncio.wait_for(waiting, 5)
        if end == "failure":
            await wait_for_async(lambda: forwarder.failed, what="the failure")
            assert forwarder.waiting == 2

    asyncio.run(scenario())


def test_database_gone_at_close_gives_up_in_time_and_says_how_many_are_left(
    oven: Oven, opened: Start, proxy: Proxy
) -> None:
    forwarder = opened(proxy)
    proxy.refuses = True
    proxy.cut_all()
    for scan in oven.run_of(1, 5):
        forwarder.put(scan)
    forwarder.start()
    before = time.monotonic()
    assert forwarder.close(drain_s=0.3) == 5
    assert time.monotonic() - before < 3
    assert isinstance(forwarder.failed, DatabaseUnreachable | psycopg.OperationalError)


def test_database_that_says_nothing_at_close_is_given_up_in_time(
    oven: Oven, opened: Start, proxy: Proxy
) -> None:
    forwarder, go_on = opened(proxy), threading.Event()

    def stall(request: bytes) -> None:
        go_on.wait(10)

    proxy.fate = stall
    forwarder.put(oven.scan(1))
    forwarder.start()
    before = time.monotonic()
    assert forwarder.close(drain_s=0.1) == 1
    assert time.monotonic() - before < 5
    assert "no answer" in str(forwarder.failed)
    go_on.set()
    wait_for(lambda: "forwarder" not in [t.name for t in threading.enumerate()], what="the thread to end")


def test_outage_during_the_drain_is_survived(schema: Schema, oven: Oven, opened: Start, proxy: Proxy) -> None:
    forwarder = opened(proxy)
    proxy.refuses = True
    proxy.cut_all()
    for scan in oven.run_of(1, 5):
        forwarder.put(scan)
    forwarder.start()
    left: list[int] = []
    closing = threading.Thread(target=lambda: left.append(forwarder.close(drain_s=10)))
    closing.start()
    wait_for(lambda: proxy.landed["refused"] >= 3, what="three attempts to connect")
    proxy.refuses = False
    closing.join(10)
    assert left == [0]
    assert schema.value("SELECT last_scan FROM logging_streams") == 5


def test_failure_that_lasts_is_tried_again_with_pauses(schema: Schema, oven: Oven, opened: Start) -> None:
    fill_the_disk(schema)
    forwarder = opened()
    forwarder.start()
    forwarder.put(oven.scan(1))
    wait_for(lambda: forwarder.reconnects >= 3, what="three more attempts")
    schema.rows("DROP FUNCTION full_disk CASCADE")
    assert forwarder.close() == 0
    assert forwarder.failed is None
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 5


def test_failure_that_lasts_does_not_outlast_the_drain(schema: Schema, oven: Oven, opened: Start) -> None:
    fill_the_disk(schema)
    forwarder = opened()
    forwarder.start()
    forwarder.put(oven.scan(1))
    before = time.monotonic()
    assert forwarder.close(drain_s=0.5) == 1
    assert time.monotonic() - before < 3
    assert isinstance(forwarder.failed, psycopg.errors.DiskFull)
    assert forwarder.reconnects < 10  # with pauses, not as fast as it goes


@pytest.mark.parametrize("fault", ["refused", "moved"])
def test_failure_that_trying_again_does_not_mend_is_told(
    schema: Schema, oven: Oven, opened: Start, fault: str
) -> None:
    told = threading.Event()
    forwarder = opened()
    forwarder.on_failure = told.set
    if fault == "refused":
        schema.rows("ALTER TABLE parameter_value_history ADD CHECK (scan < 2)")
    else:
        schema.repository(BaselineRepository, oven.config).store(oven.batch(oven.scan(1)))
    forwarder.start()
    for scan in oven.run_of(1, 2):
        forwarder.put(scan)
    assert told.wait(10)
    expected = psycopg.errors.CheckViolation if fault == "refused" else StreamMoved
    assert isinstance(forwarder.failed, expected)
    assert forwarder.close() >= 1
