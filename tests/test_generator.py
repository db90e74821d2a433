"""What a load generator may do wrong: each of these hid or made up latencies in some tool (notes, 5)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from fix_postgres import Schema
from waiting import wait_for

from bench.load.failures import Failure
from bench.load.loops import STORED, Attempt, closed_loop, open_loop
from bench.load.machine import machine
from bench.measuring.latency import Latencies, Merged
from bench.oracle.verify import verify
from bench.sweep.backends import marked
from bench.sweep.loads import LoadRequest, make_and_store
from bench.sweep.measured import LoggerRun
from bench.sweep.window import MOST_PARTS, Stamps, Window
from logger.database import register_device

S = 1_000_000_000
"""Nanoseconds."""
STALL_S = 0.3
REFUSED = Attempt(Failure.REFUSED, "23514")


class Target:
    """A null target: stores nothing, and notes when it was asked."""

    def __init__(self, answer: Callable[[int], Attempt] = lambda index: STORED) -> None:
        self.asked_ns: list[int] = []
        self._answer = answer

    def __call__(self) -> Attempt:
        self.asked_ns.append(time.perf_counter_ns())
        return self._answer(len(self.asked_ns) - 1)


def busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def slow(latencies: Latencies, than_us: float) -> int:
    """How many took longer."""
    merged = Merged([latencies])
    return int(merged.counts.sum(axis=0)[merged.values_us > than_us].sum())


def test_the_schedule_does_not_drift() -> None:
    """Pitfall 2: starts that are added up, or a pause that is always slept, come later and later."""
    target, rate = Target(), 500.0
    loop = open_loop(target, 1.0, rate)
    late = [at - target.asked_ns[0] - n / rate * S for n, at in enumerate(target.asked_ns)]
    assert loop.transactions == 500
    assert min(late[-50:]) < min(late[:50]) + 0.001 * S
    assert (loop.wait.count, loop.wait.clipped) == (500, 0)  # and nothing is begun before its time


def test_what_is_late_is_begun_at_once_and_the_plan_stays() -> None:
    """Pitfalls 1 and 2: after a stall the schedule is caught up, and all that was due meanwhile shows it."""

    def answer(index: int) -> Attempt:
        if index == 100:
            busy(STALL_S)
        return STORED

    target = Target(answer)
    loop = open_loop(target, 1.0, 400.0)
    assert loop.transactions == 400
    assert slow(loop.service, 0.2e6) == 1
    assert slow(loop.response, 0.05e6) >= 0.8 * 400 * (STALL_S - 0.05)
    assert loop.wait.max_us >= 0.9 * STALL_S * 1e6


@pytest.mark.parametrize(
    ("seconds", "rate", "planned"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.07, 100, 7), (0.1, 1234.5, 123), (0.3, 0.5, 1), (0.3, 33.4, 10)],
)
def test_a_rate_is_kept_whatever_the_fraction(seconds: float, rate: float, planned: int) -> None:
    """Pitfall 3: rates that are rounded to whole numbers or milliseconds, and rates below 1 a second."""
    loop = open_loop(Target(), seconds, rate)
    assert loop.transactions + loop.skipped == planned


def test_overload_is_counted_and_ends_nothing() -> None:
    """Pitfalls 4 and 5: no queue overflows, what was not begun is skipped, the rate is of the whole run."""

    def answer(index: int) -> Attempt:
        busy(0.01)
        return STORED

    loop = open_loop(Target(answer), 0.2, 500.0)
    assert loop.skipped > 0
    assert loop.transactions + loop.skipped == 100
    assert loop.seconds >= 0.4
    assert loop.per_second == loop.transactions / loop.seconds <= 100.0
    assert loop.response.max_us > 0.15e6


@pytest.mark.parametrize("open_or_closed", ["open", "closed"])
def test_fast_failures_improve_no_latency(open_or_closed: str) -> None:
    """Pitfalls 7 and 9: what failed is in no percentile of what was stored, and in no throughput."""

    def answer(index: int) -> Attempt:
        if index % 2:
            return REFUSED
        busy(0.002)
        return STORED

    target = Target(answer)
    loop = open_loop(target, 0.5, 200.0) if open_or_closed == "open" else closed_loop(target, 0.3)
    tried = len(target.asked_ns)
    assert loop.service.count == loop.transactions == (tried + 1) // 2
    assert loop.failures == {"refused": tried // 2}
    assert loop.failed.count == tried // 2
    assert Merged([loop.service]).percentile_us(50) >= 2000
    assert loop.per_second == pytest.approx(loop.transactions / loop.seconds)


def test_a_generator_goes_on_whatever_fails() -> None:
    """Pitfall 8: a worker that ends with its first error leaves the others with less load."""
    target = Target(lambda index: REFUSED)
    loop = open_loop(target, 0.2, 200.0)
    assert len(target.asked_ns) == loop.failures["refused"] == 40
    assert loop.transactions == 0


def test_a_retry_is_inside_its_response() -> None:
    """Pitfall 9: what was stored at the third try took all three, and counts once."""

    def answer(index: int) -> Attempt:
        busy(0.01)
        return Attempt(Failure.RETRIED, "", 2)

    loop = open_loop(Target(answer), 0.2, 20.0)
    assert (loop.transactions, loop.retried, loop.retries, loop.failures) == (4, 4, 8, {})
    assert Merged([loop.service]).values_us.min() >= 9_900


@pytest.mark.parametrize(
    ("first", "interval", "due"),
    [(0, S, 10), (S // 2, S, 10), (S - 1, S, 10), (0, 3 * S, 3), (0, round(S / 3), 30), (-7 * S, S, 10),
     (12 * S, S, 2), (14 * S, S, 0), (0, 100 * S, 0)],
)  # fmt: skip
def test_what_is_due_in_a_window_is_counted_exactly(first: int, interval: int, due: int) -> None:
    window = Window(4 * S, 14 * S)
    times = range(first, 14 * S, interval)
    assert window.due(first, interval) == due == sum(window.holds(at) for at in times)


def test_stamps_are_measured_by_when_they_were_due() -> None:
    """One that is due in the window and committed after it belongs to it, in full."""
    stamps, window = Stamps(), Window(10 * S, 20 * S)
    for due, committed in [(9, 11), (10, 11), (12, 13), (19, 27), (20, 21)]:
        stamps.stored(due * S, due * S + S // 2, committed * S, 7)
    assert stamps.response(window) == [S, S, 8 * S]
    assert stamps.lag(window) == [S // 2] * 3
    assert stamps.service(window) == [S // 2, S // 2, 15 * S // 2]
    assert stamps.scans_stored(window) == 3
    assert stamps.rows_committed(window) == 3 * 7  # 11, 11 and 13
    parts = stamps.response_by_part(window)
    assert (len(parts), parts[0], parts[2], parts[9]) == (10, [S], [S], [8 * S])
    assert Window(0, 86_400 * S).parts == MOST_PARTS


def load(schema: Schema, conninfo: str = "") -> LoggerRun:
    """Three devices of one process that share a pool of one connection."""
    devices = tuple(machine(5, f"bench-{n}") for n in range(3))
    connection = schema.connect()
    for device in devices:
        register_device(connection, device)
    where = conninfo or schema.conninfo
    request = LoadRequest(where, schema.name, "baseline", devices, 0.01, 1, 1, 0.2, 1.0, 5.0)
    return make_and_store(request)


@contextmanager
def stalled(schema: Schema) -> Iterator[None]:
    """Once something is stored, nobody can store for a while."""

    def stall() -> None:
        wait_for(lambda: schema.value("SELECT count(*) FROM logging_transactions") > 100, deadline_s=30)
        with schema.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE logging_transactions IN ACCESS EXCLUSIVE MODE")
            connection.execute("SELECT pg_sleep(%s)", (STALL_S,))

    with ThreadPoolExecutor(1) as aside:
        stalling = aside.submit(stall)
        yield
        stalling.result()


def test_a_stall_is_in_the_response_of_all_who_wait_for_the_pool(schema: Schema) -> None:
    """Pitfall 1: the time until a connection is free counts, and is told apart from the database's."""
    with stalled(schema):
        run = load(schema)
    assert run.window_due == run.window_stored == 300
    assert slow(run.response, 0.05e6) >= 0.7 * 300 * (STALL_S - 0.05)
    assert run.pool_wait.max_us >= 0.8 * STALL_S * 1e6
    assert run.response.max_us >= run.pool_wait.max_us
    assert run.failures == {}
    assert verify(schema.connect()).violations == 0


def test_a_load_leaves_no_thread_and_no_connection(schema: Schema) -> None:
    """Pitfall 17: pools are closed by who opened them, not when the interpreter ends."""
    before = set(threading.enumerate())
    name = f"{schema.name}_load"

    def connections() -> int:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return int(schema.value(statement, name))

    with ThreadPoolExecutor(1) as aside:
        running = aside.submit(load, schema, marked(schema.conninfo, name))
        wait_for(lambda: connections() == 1)
        run = running.result()
    assert run.stored_rows == 5 * run.scans == schema.value("SELECT count(*) FROM parameter_value_history")
    wait_for(lambda: connections() == 0 and set(threading.enumerate()) <= before)


def test_a_load_goes_on_after_its_connections_were_cut(schema: Schema) -> None:
    """Pitfall 8 once more, with a pool: what was lost is counted, and what was stored unnoticed is found."""
    name = f"{schema.name}_cut"

    def cut() -> None:
        wait_for(lambda: schema.value("SELECT count(*) FROM logging_transactions") > 60, deadline_s=30)
        statement = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
        assert schema.rows(statement, name)

    with ThreadPoolExecutor(1) as aside:
        cutting = aside.submit(cut)
        run = load(schema, marked(schema.conninfo, name))
        cutting.result()
    assert set(run.failures) == {"connection lost"}
    assert run.window_stored + sum(run.failures.values()) >= run.window_due == 300
    assert run.stored_rows == schema.value("SELECT count(*) FROM parameter_value_history")
    assert verify(schema.connect()).violations == 0
