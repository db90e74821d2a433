"""Scenario: too few connections: a small pool, connections that never come back, a server that is full.

1. A pool of 1, 2, … connections for more threads than that: how long a thread waits for a connection,
   beside how long the database takes.
2. Every connection of a pool is leaked while the schedule goes on, then given back.
3. Every connection of the server is taken by others (`max_connections`, SQLSTATE 53300) while writers
   try to connect, then released.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from bench.load.failures import DATABASE_ERRORS, Failure, failure_of
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress, not_measured
from bench.stress.crowd import Crowd, crowd
from bench.stress.crowd_worker import CrowdSettings, crowd_machine
from bench.stress.holdings import Holdings
from bench.stress.outage import Outage, outage_of
from bench.stress.plan import StressPlan
from bench.stress.pool_report import (
    Sized,
    outages_table,
    pool_finding,
    recovery_finding,
    recovery_judged,
    sizes_table,
)
from bench.stress.server import NotMeasured, Server
from bench.stress.window import pool_waits, window_of
from plcsim.errors import PlcsimError

NAME = "pool_exhaustion"
TITLE = "Too few connections: a small pool, leaked connections, max_connections reached"

_SETTING_UP_S = 2.0
_AFTER = 1.0
"""What follows a fault lasts so many times as long as it."""
_BEFORE = 0.5
_REFUSES_S = 0.3
"""A server that refuses for so long is full."""
_PATIENCE_S = 15.0


def planned_seconds(plan: StressPlan) -> float:
    part = plan.pool_exhaustion
    sizes = len(part.sizes) * (part.seconds + _SETTING_UP_S)
    return 2 * (sizes + 2 * (_SETTING_UP_S + (_BEFORE + 1 + _AFTER) * part.fault_s))


def run(bench: Stress, section: Section) -> None:
    """All three, of every arm. Raises PlcsimError."""
    part = bench.plan.pool_exhaustion
    sizes: list[Sized] = []
    outages: list[tuple[str, str, Outage]] = []
    with bench.server() as server:
        for arm in bench.distinct_arms:
            with _schema(bench, server, arm) as schema:
                holdings, crowds = Holdings(section, server, schema, arm), []
                for size in part.sizes:
                    begun = time.monotonic()
                    sized, writers = _with_pool(bench, server, schema, arm, size)
                    crowds.append(writers)
                    sizes.append(sized)
                    _note(section, bench, sizes, outages)
                    bench.say(f"a pool of {size}, {arm}", time.monotonic() - begun)
                begun = time.monotonic()
                outage, writers = _leaked(bench, server, schema, arm)
                outages.append(("leaked connections", arm, outage))
                _note(section, bench, sizes, outages)
                bench.say(f"leaked connections, {arm}", time.monotonic() - begun)
                holdings.check("pool", [*crowds, writers])
    try:
        _fill_up_servers(bench, section, sizes, outages)
    except NotMeasured as exc:
        not_measured(section, "max_connections reached", str(exc))


@contextmanager
def _schema(bench: Stress, server: Server, arm: str) -> Iterator[str]:
    demand = range(bench.plan.pool_exhaustion.demand)
    configs = [crowd_machine(i, bench.plan.parameters, shared=False) for i in demand]
    with server.schema("pool", configs, arm) as schema:
        yield schema


def _with_pool(bench: Stress, server: Server, schema: str, arm: str, size: int) -> tuple[Sized, Crowd]:
    """As many threads as are wanted, as fast as they go, on a pool of so many connections."""
    part = bench.plan.pool_exhaustion
    settings = CrowdSettings(server.conninfo, schema, arm, bench.plan.parameters, False, size, part.timeout_s)
    with crowd(settings, 1) as writers:
        writers.resize(part.demand, connected=False)
        writers.run(min(1.0, part.seconds))
        server.analyze(schema)
        run = writers.run(part.seconds)
        window = window_of(run.attempts, run.schedule)
        return Sized(arm, size, window, pool_waits(run.attempts, run.schedule)), writers


def _leaked(bench: Stress, server: Server, schema: str, arm: str) -> tuple[Outage, Crowd]:
    part = bench.plan.pool_exhaustion
    size = max(1, part.demand // 4)
    settings = CrowdSettings(server.conninfo, schema, arm, bench.plan.parameters, False, size, part.timeout_s)
    with crowd(settings, 1) as writers:
        writers.resize(part.demand, connected=False)
        writers.run(min(1.0, part.seconds), part.rate_per_s)
        run = writers.run(
            (_BEFORE + 1 + _AFTER) * part.fault_s,
            part.rate_per_s,
            leak=(_BEFORE * part.fault_s, (_BEFORE + 1) * part.fault_s),
        )
        ((leaked, taken_ns, given_back_ns),) = run.leaked
        if leaked < size:
            raise PlcsimError(f"only {leaked} of the pool's {size} connections could be leaked")
        return outage_of(run.attempts, run.schedule, taken_ns, given_back_ns), writers


def _fill_up_servers(
    bench: Stress,
    section: Section,
    sizes: list[Sized],
    outages: list[tuple[str, str, Outage]],
) -> None:
    part = bench.plan.pool_exhaustion
    for arm in bench.distinct_arms:
        begun = time.monotonic()
        with bench.server({"max_connections": str(part.max_connections)}) as server:
            assert server.own
            with _schema(bench, server, arm) as schema:
                holdings = Holdings(section, server, schema, arm)
                outage, writers = _full(bench, server, schema, arm)
                outages.append(("max_connections reached", arm, outage))
                _note(section, bench, sizes, outages)
                holdings.check("max_connections", [writers])
        bench.say(f"max_connections reached, {arm}", time.monotonic() - begun)


def _full(bench: Stress, server: Server, schema: str, arm: str) -> tuple[Outage, Crowd]:
    """Writers that are not connected yet find a server without a free connection, for a while."""
    part = bench.plan.pool_exhaustion
    writers_at_most = min(part.demand, part.max_connections - 5)
    settings = CrowdSettings(server.conninfo, schema, arm, bench.plan.parameters, False)
    with crowd(settings, 1) as writers:
        writers.resize(writers_at_most)
        writers.run(min(1.0, part.seconds), part.rate_per_s)  # scans made, statements planned
        writers.resize(0)
        writers.resize(writers_at_most, connected=False)
        released: list[int] = []
        with _all_connections(server) as taken:
            full_ns = time.monotonic_ns()
            timer = threading.Timer(part.fault_s, _release(taken, released))
            timer.start()
            try:
                run = writers.run((1 + _AFTER) * part.fault_s, part.rate_per_s)
            finally:
                timer.cancel()
                timer.join()
        return outage_of(run.attempts, run.schedule, full_ns, released[0]), writers


def _release(taken: list[Connection[Any]], released: list[int]) -> Callable[[], None]:
    def release() -> None:
        while taken:
            taken.pop().close()
        released.append(time.monotonic_ns())

    return release


@contextmanager
def _all_connections(server: Server) -> Iterator[list[Connection[Any]]]:
    """Every connection that the server still has; those in the list are closed after."""
    taken: list[Connection[Any]] = []
    try:
        begun = last_taken = time.monotonic()
        while time.monotonic() < last_taken + _REFUSES_S:  # backends that are ending leave a place yet
            try:
                taken.append(server.connect())
                last_taken = time.monotonic()
            except DATABASE_ERRORS as exc:
                if failure_of(exc) is not Failure.TOO_MANY_CONNECTIONS:
                    raise
                time.sleep(0.02)
            if time.monotonic() > begun + _PATIENCE_S:
                raise PlcsimError(f"the server still takes connections after {len(taken)}")
        yield taken
    finally:
        while taken:
            taken.pop().close()


def _note(
    section: Section,
    bench: Stress,
    sizes: list[Sized],
    outages: list[tuple[str, str, Outage]],
) -> None:
    """Enter what is known so far."""
    part, seed = bench.plan.pool_exhaustion, bench.seed
    section.figures["pool_sizes"] = [
        {"repository": one.arm, "pool_size": one.size, "demand": part.demand, **one.window.to_json()}
        for one in sizes
    ]
    section.figures["outages"] = [
        {"fault": fault, "repository": arm, **outage.to_json()} for fault, arm, outage in outages
    ]
    section.findings = [
        *(pool_finding(one, part.demand, seed) for one in sizes),
        *(recovery_finding(fault, arm, outage) for fault, arm, outage in outages),
    ]
    target = bench.targets.recovery_s
    section.judgements = [recovery_judged(fault, arm, outage, target) for fault, arm, outage in outages]
    tables: list[Table] = []
    if sizes:
        tables.append(sizes_table(sizes, part.demand))
    if outages:
        tables.append(outages_table(outages))
    section.tables = tables
