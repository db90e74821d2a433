"""The two arms of a comparison: a server, a schema each, and a live worker process each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from psycopg import Connection, sql

from bench.emulators import signals_held
from bench.workload import (
    SlotRequest,
    SlotResult,
    WorkerInfo,
    WorkerSettings,
    prepare,
    run_slot,
)
from logger.database import checked_conninfo, connect, mapped_errors, prepare_schema, register_device
from logger.database.embedded import EmbeddedPostgres, data_folder
from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError

BENCH_SETTINGS = {
    "max_wal_size": "16GB",
    "min_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "1GB",
    "max_connections": "300",
    "autovacuum_naptime": "1h",
}
"""No checkpoint and no automatic vacuum falls into a run of minutes; both would hit one arm only."""


@contextmanager
def bench_server(url: str | None) -> Iterator[str]:
    """Connection string of the given server, or of an embedded one of its own that is removed after.

    SIGTERM ends the program as Ctrl-C does meanwhile, so that what was made is removed.
    """
    with _ended_by_sigterm():
        if url is not None:
            yield checked_conninfo(url)
            return
        with ExitStack() as stack:
            with signals_held(signal.SIGINT, signal.SIGTERM):  # a server half started cannot be removed
                folder = data_folder()
                folder.mkdir(parents=True, exist_ok=True)
                server = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="bench-", dir=folder)), BENCH_SETTINGS)
                stack.callback(server.remove)
                stack.enter_context(server)
            yield server.conninfo


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: let us clean up
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # nobody but the main thread can handle signals
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def growing_wal(conninfo: str, segments: int) -> Iterator[Future[None]]:
    """Meanwhile make WAL segments that the next checkpoint recycles, as a server has that ran for long.

    A new server fills each segment with zeros when it first needs it, in the middle of somebody's
    commit: 20 to 50 ms, once or twice a second under load.
    """
    with ThreadPoolExecutor(1) as aside:
        yield aside.submit(_grow_wal, conninfo, segments)


def _grow_wal(conninfo: str, segments: int) -> None:
    with connect(conninfo) as connection:
        for _ in range(segments):
            connection.execute("SELECT pg_logical_emit_message(false, 'plcbench', 'fill')")
            connection.execute("SELECT pg_switch_wal()")


@contextmanager
def bench_schema(
    monitor: Connection[Any], conninfo: str, name: str, configs: Sequence[DeviceConfig]
) -> Iterator[str]:
    """A schema of our own with the devices registered in it; dropped after."""
    schema = f"plcbench_{uuid4().hex[:8]}_{name}"
    try:
        with connect(conninfo, schema) as connection:
            prepare_schema(connection, schema)
            for config in configs:
                register_device(connection, config)
        yield schema
    finally:
        with mapped_errors():
            monitor.execute("SET client_min_messages = error; SET statement_timeout = 0")
            monitor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


@dataclass
class Arm:
    """One side of the comparison."""

    name: str
    """A or B."""
    repository: str
    schema: str
    worker: ProcessPoolExecutor
    info: WorkerInfo
    stored: int = 0
    """Transactions that the worker says it stored."""
    rows: int = 0

    def run(self, request: SlotRequest) -> SlotResult:
        """Run a slot in the arm's worker and wait for it."""
        with workers_alive():
            result = self.worker.submit(run_slot, request).result()
        self.stored += result.transactions
        self.rows += result.transactions * result.parameters
        return result


def spawn_worker(*held: signal.Signals) -> ProcessPoolExecutor:
    """One worker process that shares nothing with us; Ctrl-C, and the signals `held`, are ours alone."""
    worker = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with signals_held(signal.SIGINT, *held):
        worker.submit(os.getpid)  # the process is started by its first task
    return worker


@contextmanager
def workers_alive() -> Iterator[None]:
    """Raises PlcsimError if a worker process is gone when it is needed."""
    try:
        yield
    except BrokenExecutor:
        raise PlcsimError("a worker process died: was it killed, or was memory short?") from None


@contextmanager
def two_arms(
    monitor: Connection[Any], repositories: tuple[str, str], settings: WorkerSettings
) -> Iterator[tuple[Arm, Arm]]:
    """Arms A and B, each with its schema and its prepared worker; all gone after."""
    with ExitStack() as stack:
        prepared: list[tuple[str, str, str, ProcessPoolExecutor, Future[WorkerInfo]]] = []
        for name, repository in zip("AB", repositories, strict=True):
            schema = stack.enter_context(
                bench_schema(monitor, settings.conninfo, name.lower(), settings.configs())
            )
            worker = stack.enter_context(spawn_worker(signal.SIGTERM))
            mine = replace(settings, schema=schema, repository=repository)
            prepared.append((name, repository, schema, worker, worker.submit(prepare, mine)))
        with workers_alive():
            a, b = (
                Arm(name, repository, schema, worker, future.result())
                for name, repository, schema, worker, future in prepared
            )
        yield a, b
