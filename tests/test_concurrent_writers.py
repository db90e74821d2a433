"""Several streams write one device at the same time: everything is stored, and nobody deadlocks."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import psycopg
import pytest
from fix_postgres import Schema
from fix_scans import START_US
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from logger.database import configure_session, connect, register_device
from logger.repositories import (
    BaselineRepository,
    Repository,
    SharedSynchronizingRepository,
    SynchronizingRepository,
)
from logger.repositories.pool import connection_pool
from logger.scan import Quality, Scan, ScanLayout, StreamKey, batch_of
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

WRITERS, TRANSACTIONS, PARAMETERS = 4, 8, 800
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


def device() -> DeviceConfig:
    """A device with so many parameters that the updates of several writers overlap."""
    parameters = [
        {"id": n + 1, "component": "c", "name": f"p{n}", "address": n, "type": "uint16"}
        for n in range(PARAMETERS)
    ]
    group = {"name": "all", "table": "holding_register", "consistent": False, "parameters": parameters}
    return parse_device({"device": {"device_id": "wide"}, "groups": [group]})


@pytest.fixture(scope="module")
def wide() -> DeviceConfig:
    return device()


def scan(number: int) -> Scan:
    values = number + np.arange(PARAMETERS, dtype=np.float64)
    quality = np.full(PARAMETERS, Quality.GOOD, dtype=np.int16)
    return Scan(number, values, quality, np.full(PARAMETERS, START_US + number, dtype=np.int64))


def quarrelsome(connection: psycopg.Connection[Any], number: int) -> None:
    """Every other writer has a plan that locks the rows in another order, as it may have on any day."""
    connection.execute("SET deadlock_timeout = '5ms'")
    connection.execute("SET application_name = 'writer'")
    if number % 2:
        for join in ("hashjoin", "mergejoin", "seqscan"):
            connection.execute(f"SET enable_{join} = off".encode())


def write(repository: Repository, layout: ScanLayout, stream_id: int, up_to: int) -> int:
    """Store one stream's scans, each again after a deadlock; returns how many there were."""
    stream, deadlocks = repository.open(StreamKey("wide", stream_id)), 0
    while stream.head.last_scan < up_to:
        try:
            stream.store(batch_of([scan(stream.head.last_scan + 1)], layout))
        except psycopg.errors.DeadlockDetected:
            assert stream.is_certain
            deadlocks += 1
    return deadlocks


def write_alone(conninfo: str, schema: str, kind: type[Repository], stream_id: int, up_to: int) -> int:
    """What a process of its own does."""
    with connect(conninfo, schema) as connection:
        quarrelsome(connection, stream_id)
        return write(kind(connection), ScanLayout(device()), stream_id, up_to)


def by_connections(schema: Schema, processes: Executor, kind: type[Repository], up_to: int) -> int:
    """A thread, a connection and a repository each."""
    start = threading.Barrier(WRITERS)

    def run(stream_id: int) -> int:
        start.wait(10)
        return write_alone(schema.conninfo, schema.name, kind, stream_id, up_to)

    return _sum(ThreadPoolExecutor(WRITERS), run)


def by_processes(schema: Schema, processes: Executor, kind: type[Repository], up_to: int) -> int:
    """A process each."""
    pending = [
        processes.submit(write_alone, schema.conninfo, schema.name, kind, stream_id, up_to)
        for stream_id in range(1, WRITERS + 1)
    ]
    return sum(future.result() for future in pending)


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """Processes that begin when all are there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WRITERS, context, _meet, (context.Barrier(WRITERS),)) as executor:
        yield executor


def _meet(start: Any) -> None:
    start.wait(30)


def by_threads_of_one_pool(schema: Schema, processes: Executor, kind: type[Repository], up_to: int) -> int:
    """Threads that share one repository and its pool."""
    numbers, layout = count(), ScanLayout(device())

    def configure(connection: psycopg.Connection[Any]) -> None:
        configure_session(connection, schema.name)
        quarrelsome(connection, next(numbers))

    with connection_pool(schema.conninfo, schema.name, WRITERS, configure=configure) as pool:
        pool.wait(10)
        repository = kind(pool)
        return _sum(ThreadPoolExecutor(WRITERS), lambda n: write(repository, layout, n, up_to))


def _sum(executor: Executor, run: Callable[[int], int]) -> int:
    with executor:
        return sum(executor.map(run, range(1, WRITERS + 1)))


WAYS = [by_connections, by_threads_of_one_pool, by_processes]
Way = Callable[[Schema, Executor, type[Repository], int], int]


def write_together(
    schema: Schema,
    processes: Executor,
    way: Way,
    kind: type[Repository],
    config: DeviceConfig,
    up_to: int = TRANSACTIONS,
) -> int:
    """Let all writers store their scans at the same time; returns how many deadlocks there were."""
    with schema.connect() as connection:
        register_device(connection, config)
    found = way(schema, processes, kind, up_to)
    wait_for(lambda: schema.value(OTHERS, "writer") == 0, what="the writers' backends to end")
    return found


def stored(schema: Schema) -> list[tuple[Any, ...]]:
    return schema.rows(
        "SELECT stream_id, count(*), min(scan), max(scan) FROM parameter_value_history GROUP BY 1 ORDER BY 1"
    )


def everything(up_to: int = TRANSACTIONS) -> list[tuple[Any, ...]]:
    return [(n, PARAMETERS * up_to, 1, up_to) for n in range(1, WRITERS + 1)]


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((SharedSynchronizingRepository, way) for way in WAYS), (BaselineRepository, by_connections)],
)
def test_writers_of_one_device_do_not_deadlock(
    schema: Schema, processes: Executor, kind: type[Repository], wide: DeviceConfig, way: Way
) -> None:
    before = schema.value(DEADLOCKS)
    assert write_together(schema, processes, way, kind, wide) == 0
    assert schema.value(DEADLOCKS) == before
    assert stored(schema) == everything()
    if kind is SharedSynchronizingRepository:
        now = schema.rows("SELECT DISTINCT scan, current_value - parameter_id FROM component_parameters")
        assert now == [(TRANSACTIONS, TRANSACTIONS - 1)]


@pytest.mark.parametrize("way", WAYS)
def test_writers_deadlock_without_the_lock_on_the_device(
    schema: Schema, processes: Executor, wide: DeviceConfig, way: Way
) -> None:
    """The negative control; even then each scan is stored once."""
    before = schema.value(DEADLOCKS)
    found = up_to = 0
    while not found and up_to < 40 * TRANSACTIONS:  # how soon they meet is the scheduler's matter
        up_to += 4 * TRANSACTIONS
        found = write_together(schema, processes, way, SynchronizingRepository, wide, up_to)
    assert found > 0
    wait_for(lambda: schema.value(DEADLOCKS) - before >= found, what="the server to count them")
    assert stored(schema) == everything(up_to)


def test_pool_goes_on_after_its_connections_were_lost(schema: Schema, wide: DeviceConfig) -> None:
    """One failed call each at most; what failed says that nothing was stored, or is read back."""
    register_device(schema.connect(), wide)
    conninfo = make_conninfo(schema.conninfo, application_name="pooled")
    with connection_pool(conninfo, schema.name, 3) as pool:
        repository, layout, failed = SynchronizingRepository(pool), ScanLayout(wide), 0
        stream = repository.open(StreamKey("wide"), writer=None)
        for number in range(1, 9):
            if number % 2 == 0:
                assert schema.value(KILL, "pooled") >= 1
            while stream.head.last_scan < number:
                try:
                    stream.store(batch_of([scan(number)], layout))
                except psycopg.OperationalError:
                    failed += 1
                    if not stream.is_certain:
                        stream = repository.open(stream.key, writer=stream.writer)
    assert 1 <= failed <= 4 * 3
    assert stored(schema) == [(1, PARAMETERS * 8, 1, 8)]
