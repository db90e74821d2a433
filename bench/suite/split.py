"""A transaction statement by statement, each timed; runs in a worker process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from bench.arms.spec import parse_arm
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from bench.load.work import device_id_of
from bench.strategies.separate import Timed
from logger.database import connect
from logger.repositories.transaction import Step
from logger.scan import ScanLayout, StreamKey, batch_of

PARTS = ("round trip", "begin", "stream", "ledger", "history", "process rows", "current values", "commit")
"""Steps in their order; the first is an empty statement, for comparison."""
_WARM_UP = 5


@dataclass(frozen=True)
class SplitRequest:
    """What to run."""

    conninfo: str
    schemas: dict[str, str]
    """Of each arm, by its spec: repositories of several statements."""
    parameters: int
    transactions: int
    """Of each arm, in turn."""


@dataclass
class SplitTimes:
    """Microseconds of each step of each transaction, by step; `whole` is all of it but the round trip."""

    by_step: dict[str, list[float]] = field(default_factory=dict)
    stored: int = 0

    def add(self, step: str, nanoseconds: int) -> None:
        self.by_step.setdefault(step, []).append(nanoseconds / 1000)


def split(asked: SplitRequest) -> dict[str, SplitTimes]:
    """Store through each arm in turn, transaction by transaction. Raises DatabaseError."""
    config = machine(asked.parameters, device_id_of(asked.parameters))
    layout, source = ScanLayout(config), PrecomputedScans(config)
    times = {arm: SplitTimes() for arm in asked.schemas}
    with ExitStack() as stack:
        stores = {}
        for arm, schema in asked.schemas.items():
            connection = stack.enter_context(connect(asked.conninfo, schema))
            repository = parse_arm(arm).repository_class()(connection)
            stream = repository.open(StreamKey(layout.device_id), layout.recipe)
            stores[arm] = connection, Timed(connection), stream
        for number in range(1, asked.transactions + _WARM_UP + 1):
            for arm, (connection, timed, stream) in stores.items():
                batch = batch_of([source.next(number)], layout)
                begun = time.perf_counter_ns()
                steps, after = stream.steps(batch, stream.standing)
                took = timed.run(steps)
                whole = time.perf_counter_ns() - begun
                stream.standing = after
                times[arm].stored += 1
                if number > _WARM_UP:
                    _note(times[arm], steps, took, whole)
                    times[arm].add("round trip", _round_trip(connection))
    return times


def _note(times: SplitTimes, steps: Sequence[Step], took: Sequence[int], whole: int) -> None:
    """`took` is the begin, each step, the commit."""
    times.add("whole", whole)
    for name, nanoseconds in zip(("begin", *_names(steps), "commit"), took, strict=True):
        times.add(name, nanoseconds)


def _names(steps: Sequence[Step]) -> Iterator[str]:
    """What each statement is for, by the table that it changes."""
    tables = {
        "UPDATE logging_streams": "stream",
        "INTO logging_transactions": "ledger",
        "INTO parameter_value_history": "history",
        "INTO process_data_points": "process rows",
        "UPDATE component_parameters": "current values",
    }
    for step in steps:
        yield next((name for table, name in tables.items() if table in step.statement), "process begins")


def _round_trip(connection: Connection[Any]) -> int:
    start = time.perf_counter_ns()
    connection.pgconn.exec_(b"SELECT 1")
    return time.perf_counter_ns() - start
