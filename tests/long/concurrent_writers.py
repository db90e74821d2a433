"""A hundred writers on the same 84 rows: no deadlock, no failure; without the device's lock there are some.

python -m long.concurrent_writers [--count WRITERS] [--transactions N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import numpy as np
import psycopg
from fix_emulator import ALD_FILE
from fix_postgres import Schema
from long.harness import figure, finish, judge, none, schema_in, server

from logger.database import connect, register_device
from logger.repositories import Repository, SharedSynchronizingRepository, SynchronizingRepository
from logger.scan import Batch, Quality, Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import load_device
from plcsim.truth import Truth

CONFIG = load_device(ALD_FILE)
LAYOUT = ScanLayout(CONFIG)
VALUES = Truth(CONFIG).values_at(np.arange(1, 19, dtype=np.int64))  # idle: no process of 100 writers
GOOD = np.full(LAYOUT.size, Quality.GOOD, dtype=np.int16)


CLOCK_US = count(1_700_000_000_000_000)
"""Each scan is newer than the ones before: one that is not would update, and lock, no row."""
PAUSE = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$"""
PAUSED = f"""
CREATE TRIGGER pause BEFORE UPDATE ON component_parameters FOR EACH ROW
WHEN (NEW.parameter_id = {LAYOUT.parameter_ids[LAYOUT.size // 2]}) EXECUTE FUNCTION pause()"""
"""With half of the rows locked a writer is slow, so that two of them meet on a machine of two cores."""


def scan(number: int) -> Scan:
    recorded_at = np.full(LAYOUT.size, next(CLOCK_US), dtype=np.int64)
    return Scan(number, VALUES[number % len(VALUES)], GOOD, recorded_at, None)


def shuffle(schema: Schema) -> None:
    """Let the rows lie in another order than their ids, as they do after a while."""
    move = "UPDATE component_parameters SET parameter_id = parameter_id WHERE parameter_id = %s"
    for n in np.random.default_rng(1).permutation(LAYOUT.parameter_ids):
        schema.rows(move, int(n))


def backwards(batch: Batch) -> Batch:
    """The same rows, the last parameter first."""
    names = ("parameter_id", "recorded_at", "value", "set_value", "quality")
    return replace(batch, **{name: np.ascontiguousarray(getattr(batch, name)[::-1]) for name in names})


def write(
    schema: Schema,
    kind: type[Repository],
    stream_id: int,
    up_to: int,
    start: threading.Barrier,
    is_against: bool,
) -> int:
    """One writer's transactions, each again after a deadlock; returns how many of those there were.

    `is_against`: every other one updates the rows in the opposite order.
    """
    deadlocks = 0
    with connect(schema.conninfo, schema.name) as connection:
        connection.execute("SET deadlock_timeout = '20ms'; SET lock_timeout = 0; SET statement_timeout = 0")
        # plans change with statistics: one half locks rows as they lie, the other by their index
        for plan in ("hashjoin", "mergejoin", "seqscan") if stream_id % 2 else ("nestloop", "indexscan"):
            connection.execute(f"SET enable_{plan} = off".encode())
        stream = kind(connection).open(StreamKey(CONFIG.device.device_id, stream_id))
        start.wait(60)
        while stream.head.last_scan < up_to:
            try:
                batch = batch_of([scan(stream.head.last_scan + 1)], LAYOUT)
                stream.store(backwards(batch) if stream_id % 2 and is_against else batch)
            except psycopg.errors.DeadlockDetected:
                deadlocks += 1
    return deadlocks


def run(writers: int, up_to: int) -> None:
    arms: list[tuple[str, type[Repository], bool]] = [
        ("same", SharedSynchronizingRepository, False),
        ("against", SharedSynchronizingRepository, True),
        ("without", SynchronizingRepository, True),
    ]
    with server() as postgres:
        for name, kind, is_against in arms:
            with schema_in(postgres.conninfo, name) as schema:
                with connect(schema.conninfo, schema.name) as connection:
                    register_device(connection, CONFIG)
                shuffle(schema)
                if is_against:
                    schema.rows(PAUSE)
                    schema.rows(PAUSED)
                start = threading.Barrier(writers)
                with ThreadPoolExecutor(writers) as executor:
                    jobs = [
                        executor.submit(write, schema, kind, n, up_to, start, is_against)
                        for n in range(1, writers + 1)
                    ]
                    deadlocks = sum(job.result() for job in jobs)
                if kind is SynchronizingRepository:
                    figure("control: deadlocks without the lock", deadlocks, "", "> 0", deadlocks > 0)
                    continue
                none(f"{name} order: deadlocks of {writers} writers on {LAYOUT.size} rows", deadlocks)
                done = schema.value("SELECT count(*) FROM logging_transactions")
                figure(
                    "transactions that succeeded", done, "", f"= {writers * up_to}", done == writers * up_to
                )
                if not is_against:  # the oracle holds that rows are stored in ascending order
                    judge(schema)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--transactions", type=int, default=50)
    options = parser.parse_args()
    run(options.count, options.transactions)
    finish()


if __name__ == "__main__":
    main()
