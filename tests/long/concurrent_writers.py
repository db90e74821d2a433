"""A hundred writers on the same 84 rows: no deadlock, no failure; without the device's lock there are some.

Half of the writers have a plan that locks rows in another order. The control is that of
tests/test_concurrent_writers.py, with 800 rows: on 84 of them writers seldom meet.
python -m long.concurrent_writers [--count WRITERS] [--transactions N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import test_concurrent_writers as proven
from fix_emulator import ALD_FILE
from fix_postgres import Schema
from long.harness import figure, finish, judge, none, schema_in, server

from logger.database import connect, register_device
from logger.repositories import SharedSynchronizingRepository, SynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import load_device
from plcsim.truth import Truth

CONFIG = load_device(ALD_FILE)
LAYOUT = ScanLayout(CONFIG)
VALUES = Truth(CONFIG).values_at(np.arange(1, 19, dtype=np.int64))  # idle: no process of 100 writers
GOOD = np.full(LAYOUT.size, Quality.GOOD, dtype=np.int16)
START_US = 1_700_000_000_000_000
TRIES = 4
"""Schemas in which writers without the lock may meet."""


def write(schema: Schema, stream_id: int, up_to: int, start: threading.Barrier) -> None:
    """One writer's transactions; raises what one of them fails with."""
    with connect(schema.conninfo, schema.name) as connection:
        proven.quarrelsome(connection, stream_id)
        # a hundred wait in a row for one lock, on two cores
        connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        stream = SharedSynchronizingRepository(connection).open(StreamKey(CONFIG.device.device_id, stream_id))
        start.wait(60)
        for number in range(1, up_to + 1):
            # each scan is newer than those of all writers before it: an older one would lock no row
            recorded_at = np.full(LAYOUT.size, START_US + 1000 * number + stream_id, dtype=np.int64)
            stream.store(batch_of([Scan(number, VALUES[number % 18], GOOD, recorded_at, None)], LAYOUT))


def run(schema: Schema, writers: int, up_to: int) -> None:
    """All writers at the same time."""
    with connect(schema.conninfo, schema.name) as connection:
        register_device(connection, CONFIG)
    before, start = schema.value(proven.DEADLOCKS), threading.Barrier(writers)
    with ThreadPoolExecutor(writers) as executor:
        jobs = [executor.submit(write, schema, n, up_to, start) for n in range(1, writers + 1)]
    none("writers that failed", sum(job.exception() is not None for job in jobs))
    none(f"deadlocks of {writers} writers on {LAYOUT.size} rows", schema.value(proven.DEADLOCKS) - before)
    done = schema.value("SELECT count(*) FROM logging_transactions")
    figure("transactions that succeeded", done, "", f"= {writers * up_to}", done == writers * up_to)
    judge(schema)


def control(conninfo: str) -> None:
    """In the way of the short test: without the lock until writers meet, with it as often."""
    found = up_to = 0
    for _ in range(TRIES):  # in a schema where all came to the same plan they lock in the same order
        with ThreadPoolExecutor(1) as unused, schema_in(conninfo, "without") as schema:
            up_to = 0
            while not found and up_to < 20 * proven.TRANSACTIONS:
                up_to += 4 * proven.TRANSACTIONS
                found = proven.write_together(
                    schema, unused, proven.by_connections, SynchronizingRepository, proven.device(), up_to
                )
        if found:
            break
    figure(f"control: deadlocks without the lock, {up_to} a writer", found, "", "> 0", found > 0)
    with ThreadPoolExecutor(1) as unused, schema_in(conninfo, "with") as schema:
        kind = SharedSynchronizingRepository
        again = proven.write_together(schema, unused, proven.by_connections, kind, proven.device(), up_to)
        none("deadlocks of the same with it", again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--transactions", type=int, default=50)
    options = parser.parse_args()
    with server() as postgres, schema_in(postgres.conninfo) as schema:
        run(schema, options.count, options.transactions)
    with server({"fsync": "off"}) as postgres:  # writers that wait for a disk seldom meet
        control(postgres.conninfo)
    finish()


if __name__ == "__main__":
    main()
