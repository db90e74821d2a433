"""The two arms of a comparison: a schema each, and a live worker process each."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from psycopg import Connection, sql

from bench.arms.oracle import ArmOracle
from bench.arms.spec import parse_arm
from bench.load.emulators import signals_held
from bench.load.server import BENCH_SETTINGS, bench_server, ended_by_sigterm, growing_wal
from bench.load.work import SlotRequest, SlotResult, WorkerInfo, WorkerSettings
from bench.load.worker import prepare, run_slot
from bench.oracle.invariants import Verification
from bench.oracle.verify import verify
from logger.database import connect, mapped_errors, prepare_schema, register_device
from logger.errors import DatabaseUnreachable
from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError

PrepareTables = Callable[[Connection[Any], str], None]
"""Makes more tables in a schema, before an arm's own: clones of the user's, say."""


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
        try:
            _drop(monitor, schema)
        except DatabaseUnreachable:  # lost meanwhile: by a fault of the run, or the server was restarted
            with connect(conninfo) as fresh:
                _drop(fresh, schema)


def _drop(connection: Connection[Any], schema: str) -> None:
    """Drop a schema; whoever still works in it (the backend of a killed worker) is waited for."""
    with mapped_errors():
        connection.execute(
            "SET client_min_messages = error; SET statement_timeout = 0; SET lock_timeout = '60s'"
        )
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


@dataclass
class Arm:
    """One side of the comparison."""

    name: str
    """A or B."""
    repository: str
    """The arm's spec."""
    schema: str
    worker: ProcessPoolExecutor
    info: WorkerInfo
    stored: int = 0
    """Transactions that the worker says it stored."""
    rows: int = 0
    """History rows of them."""
    in_doubt: int = 0
    """Transactions of which nobody knows, of an arm that is not ours."""
    oracle: ArmOracle | None = None
    """What checks the schema; without one, the oracle of our own tables."""

    @property
    def is_ours(self) -> bool:
        """Whether the oracle knows the tables, so that history rows can be counted."""
        return parse_arm(self.repository).is_ours

    @property
    def expects_hot(self) -> bool:
        """Whether its updates should stay on their page (HOT): not if a setting of its own may prevent it."""
        settings = parse_arm(self.repository).settings
        return settings.index is None and settings.fillfactor is None

    def verify(self, conninfo: str) -> Verification:
        """Check everything in the arm's schema; no slot may run meanwhile. Raises DatabaseError."""
        with workers_alive():
            return self.verifying(conninfo).result()

    def verifying(self, conninfo: str) -> Future[Verification]:
        """The same, by the arm's worker: both arms' can be checked at once."""
        return self.worker.submit(_verify, self.oracle, conninfo, self.schema, self.stored, self.in_doubt)

    def run(self, request: SlotRequest) -> SlotResult:
        """Run a slot in the arm's worker and wait for it."""
        with workers_alive():
            result = self.worker.submit(run_slot, request).result()
        self.stored += result.transactions
        self.rows += result.scans * result.parameters
        self.in_doubt += result.in_doubt
        return result


def _verify(oracle: ArmOracle | None, conninfo: str, schema: str, stored: int, in_doubt: int) -> Verification:
    with connect(conninfo, schema) as connection:
        return oracle.verify(connection, stored, in_doubt) if oracle else verify(connection)


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
    monitor: Connection[Any],
    repositories: tuple[str, str],
    settings: WorkerSettings,
    prepare_tables: PrepareTables = lambda connection, schema: None,
) -> Iterator[tuple[Arm, Arm]]:
    """Arms A and B, each with its schema, what its spec wants in it and its prepared worker; all gone after.

    Raises InputError, DatabaseError.
    """
    with ExitStack() as stack:
        prepared: list[tuple[tuple[str, str, str, ProcessPoolExecutor], ArmOracle, Future[WorkerInfo]]] = []
        for name, repository in zip("AB", repositories, strict=True):
            spec = parse_arm(repository)
            schema = stack.enter_context(
                bench_schema(monitor, settings.conninfo, name.lower(), settings.configs())
            )
            with connect(settings.conninfo, schema) as connection:
                prepare_tables(connection, schema)
                spec.prepare_schema(connection, schema)
                oracle = ArmOracle(spec, connection, schema)
            worker = stack.enter_context(spawn_worker(signal.SIGTERM))
            mine = replace(settings, schema=schema, repository=repository)
            prepared.append(((name, repository, schema, worker), oracle, worker.submit(prepare, mine)))
        with workers_alive():
            a, b = (Arm(*who, info=future.result(), oracle=oracle) for who, oracle, future in prepared)
        yield a, b


__all__ = [
    "BENCH_SETTINGS",
    "Arm",
    "bench_schema",
    "bench_server",
    "ended_by_sigterm",
    "growing_wal",
    "spawn_worker",
    "two_arms",
    "workers_alive",
]
