"""Several writers on the same rows at once: do they deadlock, fail, or disagree afterwards?"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection

from bench.arms.oracle import ArmOracle
from bench.arms.spec import parse_arm
from bench.load.arms import PrepareTables, bench_schema, spawn_worker, workers_alive
from bench.load.work import SlotRequest, SlotResult, WorkerSettings
from bench.load.worker import prepare, run_slot
from bench.measuring.resources import server_counters
from bench.oracle.invariants import Verification
from logger.database import connect

WRITERS = 3


@dataclass(frozen=True)
class Concurrency:
    """What several writers on one device did together."""

    writers: int
    per_second: float
    """Transactions of all writers."""
    transactions: int
    failures: dict[str, int]
    """By the value of `bench.load.failures.Failure`."""
    deadlocks: int
    """As the server counts them."""
    verification: Verification

    @property
    def success(self) -> float:
        tried = self.transactions + sum(self.failures.values())
        return self.transactions / tried if tried else 0.0


def concurrency_check(
    monitor: Connection[Any],
    conninfo: str,
    repository: str,
    parameters: int,
    running: bool,
    seconds: float,
    prepare_tables: PrepareTables = lambda connection, schema: None,
    workers: Sequence[ProcessPoolExecutor] = (),
) -> Concurrency:
    """Streams of one device at saturation, and the invariants afterwards: one stream a worker.

    Without `workers`, three are started and ended.
    """
    spec = parse_arm(repository)
    settings = WorkerSettings(conninfo, "", repository, (parameters,), running, several_writers=True)
    with ExitStack() as stack:
        schema = stack.enter_context(bench_schema(monitor, conninfo, "writers", settings.configs()))
        with connect(conninfo, schema) as connection:
            prepare_tables(connection, schema)
            spec.prepare_schema(connection, schema)
            oracle = ArmOracle(spec, connection, schema)
        workers = workers or [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(WRITERS)]
        streams = range(1, len(workers) + 1)
        _all(workers, prepare, [replace(settings, schema=schema, stream_id=n) for n in streams])
        before = server_counters(monitor, schema).deadlocks
        request = SlotRequest(parameters, saturated_s=seconds)
        results: list[SlotResult] = _all(workers, run_slot, [request] * len(workers))
        deadlocks = server_counters(monitor, schema).deadlocks - before
        loops = [result.saturated for result in results if result.saturated]
        failures: dict[str, int] = {}
        for loop in loops:
            for name, count in loop.failures.items():
                failures[name] = failures.get(name, 0) + count
        with connect(conninfo, schema) as connection:
            stored = sum(result.transactions for result in results)
            verification = oracle.verify(connection, stored, sum(result.in_doubt for result in results))
        return Concurrency(
            len(workers),
            sum(loop.per_second for loop in loops),
            sum(loop.transactions for loop in loops),
            failures,
            deadlocks,
            verification,
        )


def _all(workers: Sequence[ProcessPoolExecutor], function: Any, arguments: list[Any]) -> list[Any]:
    with workers_alive():
        futures = [w.submit(function, a) for w, a in zip(workers, arguments, strict=True)]
        return [future.result() for future in futures]
