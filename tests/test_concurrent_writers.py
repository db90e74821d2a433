"""Several streams write one device at the same time: everything is stored, and nobody deadlocks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest
from fix_postgres import Schema
from fix_scans import START_US
from waiting import wait_for

from logger.database import register_device
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, batch_of
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

WRITERS, TRANSACTIONS, PARAMETERS = 4, 8, 800
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


@pytest.fixture(scope="module")
def wide() -> DeviceConfig:
    """A device with so many parameters that the updates of several writers overlap."""
    parameters = [
        {"id": n + 1, "component": "c", "name": f"p{n}", "address": n, "type": "uint16"}
        for n in range(PARAMETERS)
    ]
    group = {"name": "all", "table": "holding_register", "consistent": False, "parameters": parameters}
    return parse_device({"device": {"device_id": "wide"}, "groups": [group]})


def scan(number: int) -> Scan:
    values = number + np.arange(PARAMETERS, dtype=np.float64)
    quality = np.full(PARAMETERS, Quality.GOOD, dtype=np.int16)
    return Scan(number, values, quality, np.full(PARAMETERS, START_US + number, dtype=np.int64))


def write_together(
    schema: Schema, kind: type[Repository], config: DeviceConfig, up_to: int = TRANSACTIONS
) -> int:
    """Let all writers store their scans, each again after a deadlock; returns how many there were."""
    layout, start = ScanLayout(config), threading.Barrier(WRITERS)
    with schema.connect() as connection:
        register_device(connection, config)

    def write(stream_id: int) -> int:
        deadlocks = 0
        with schema.connect() as connection:
            connection.execute("SET deadlock_timeout = '5ms'")
            connection.execute("SET application_name = 'writer'")
            if stream_id % 2:  # another plan locks the rows in another order, as it may on any day
                for join in ("hashjoin", "mergejoin", "seqscan"):
                    connection.execute(f"SET enable_{join} = off".encode())
            repository = kind(connection, "wide", stream_id)
            start.wait(10)
            while repository.head.last_scan < up_to:
                try:
                    repository.store(batch_of([scan(repository.head.last_scan + 1)], layout))
                except psycopg.errors.DeadlockDetected:
                    deadlocks += 1
        return deadlocks

    with ThreadPoolExecutor(WRITERS) as pool:
        found = sum(pool.map(write, range(1, WRITERS + 1)))
    wait_for(lambda: schema.value(OTHERS, "writer") == 0, what="the writers' backends to end")
    return found


def stored(schema: Schema) -> list[tuple[Any, ...]]:
    return schema.rows(
        "SELECT stream_id, count(*), min(scan), max(scan) FROM parameter_value_history GROUP BY 1 ORDER BY 1"
    )


def everything(up_to: int = TRANSACTIONS) -> list[tuple[Any, ...]]:
    return [(n, PARAMETERS * up_to, 1, up_to) for n in range(1, WRITERS + 1)]


@pytest.mark.parametrize("kind", [SharedSynchronizingRepository, BaselineRepository])
def test_writers_of_one_device_do_not_deadlock(
    schema: Schema, kind: type[Repository], wide: DeviceConfig
) -> None:
    before = schema.value(DEADLOCKS)
    assert write_together(schema, kind, wide) == 0
    assert schema.value(DEADLOCKS) == before
    assert stored(schema) == everything()
    if kind is SharedSynchronizingRepository:
        now = schema.rows("SELECT DISTINCT scan, current_value - parameter_id FROM component_parameters")
        assert now == [(TRANSACTIONS, TRANSACTIONS - 1)]


def test_writers_deadlock_without_the_lock_on_the_device(schema: Schema, wide: DeviceConfig) -> None:
    """The negative control; even then each scan is stored once."""
    before = schema.value(DEADLOCKS)
    found = up_to = 0
    while not found and up_to < 20 * TRANSACTIONS:  # how soon they meet is the scheduler's matter
        up_to += TRANSACTIONS
        found = write_together(schema, SynchronizingRepository, wide, up_to)
    assert found > 0
    wait_for(lambda: schema.value(DEADLOCKS) - before >= found, what="the server to count them")
    assert stored(schema) == everything(up_to)
