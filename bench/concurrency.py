"""Several writers on the same rows at once: do they deadlock, fail, or disagree afterwards?"""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection

from bench.arms import bench_schema, spawn_worker, workers_alive
from bench.invariants import Verification
from bench.resources import server_counters
from bench.verify import verify
from bench.workload import SHARED_SYNCHRONIZING, SlotRequest, SlotResult, WorkerSettings, prepare, run_slot
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
    deadlocks: int
    """As the server counts them."""
    verification: Verification

    @property
    def success(self) -> float:
        tried = self.transactions + sum(self.failures.values())
        return self.transactions / tried if tried else 0.0


def concurrency_check(
    monitor: Connection[Any], conninfo: str, repository: str, parameters: int, running: bool, seconds: float
) -> Concurrency:
    """Three streams of one device at saturation, and the invariants afterwards."""
    shared = SHARED_SYNCHRONIZING if repository == "synchronizing" else repository
    settings = WorkerSettings(conninfo, "", shared, (parameters,), running)
    with ExitStack() as stack:
        schema = stack.enter_context(bench_schema(monitor, conninfo, "writers", settings.configs()))
        workers = [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(WRITERS)]
        _all(workers, prepare, [replace(settings, schema=schema, stream_id=n + 1) for n in range(WRITERS)])
        before = server_counters(monitor, schema).deadlocks
        request = SlotRequest(parameters, saturated_s=seconds)
        results: list[SlotResult] = _all(workers, run_slot, [request] * WRITERS)
        deadlocks = server_counters(monitor, schema).deadlocks - before
        loops = [result.saturated for result in results if result.saturated]
        failures: dict[str, int] = {}
        for loop in loops:
            for name, count in loop.failures.items():
                failures[name] = failures.get(name, 0) + count
        with connect(conninfo, schema) as connection:
            verification = verify(connection)
        return Concurrency(
            WRITERS,
            sum(loop.per_second for loop in loops),
            sum(loop.transactions for loop in loops),
            failures,
            deadlocks,
            verification,
        )


def _all(workers: list[ProcessPoolExecutor], function: Any, arguments: list[Any]) -> list[Any]:
    with workers_alive():
        futures = [w.submit(function, a) for w, a in zip(workers, arguments, strict=True)]
        return [future.result() for future in futures]
