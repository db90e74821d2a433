"""The loops by themselves: failures kept apart, retries inside the response, starts that are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from bench.load.failures import Failure
from bench.load.loops import STORED, Attempt, closed_loop, open_loop, open_loop_at
from bench.load.work import Loop
from bench.measuring.latency import Merged

DEADLOCK = Attempt(Failure.DEADLOCK, "40P01")
RETRIED = Attempt(Failure.RETRIED, "", 2)


def taking(ms: float, made: Attempt = STORED) -> Attempt:
    """An attempt that takes so long, awake."""
    end = time.perf_counter_ns() + round(ms * 1e6)
    while time.perf_counter_ns() < end:
        pass
    return made


def in_turn(*attempts: Callable[[], Attempt]) -> Callable[[], Attempt]:
    def each() -> Iterator[Attempt]:
        while True:
            for attempt in attempts:
                yield attempt()

    turns = each()
    return lambda: next(turns)


LOOPS: dict[str, Callable[[Callable[[], Attempt]], Loop]] = {
    "closed": lambda attempt: closed_loop(attempt, 0.2),
    "open": lambda attempt: open_loop(attempt, 0.2, 200),
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_fast_failures_do_not_improve_the_latencies(loop: Callable[..., Loop]) -> None:
    clean = loop(lambda: taking(2))
    mixed = loop(in_turn(lambda: taking(2), lambda: DEADLOCK))
    assert mixed.service.mean_us >= 2000
    assert mixed.service.count == mixed.transactions
    assert mixed.failed.count == mixed.failures["deadlock"] == mixed.reasons["40P01"]
    assert abs(mixed.transactions - mixed.failed.count) <= 1
    assert clean.failures == {}
    assert clean.failed.count == 0
    assert mixed.tried == mixed.transactions + mixed.failed.count + mixed.skipped


def test_goodput_counts_what_is_stored_and_nothing_else() -> None:
    loop = open_loop(in_turn(lambda: STORED, lambda: DEADLOCK, lambda: RETRIED, lambda: STORED), 0.5, 80)
    assert (loop.transactions, loop.failures) == (30, {"deadlock": 10})
    assert (loop.retried, loop.retries) == (10, 20)
    assert loop.per_second == pytest.approx(30 / loop.seconds)


def test_a_failure_counts_from_its_intended_start() -> None:
    first = iter([True])
    loop = open_loop(lambda: taking(100) if next(first, False) else DEADLOCK, 0.2, 100)
    waited = Merged([loop.failed])
    assert waited.max_us >= 80_000  # due 10 ms after the stall began, and begun behind it
    assert loop.failed.count == loop.failures["deadlock"] == 19


def test_starts_that_are_given_are_kept_and_may_be_uneven() -> None:
    offsets = [0, 1_000_000, 2_000_000, 90_000_000]
    begun: list[int] = []

    def attempt() -> Attempt:
        begun.append(time.perf_counter_ns())
        return STORED

    loop = open_loop_at(attempt, offsets, 0.1)
    assert (loop.transactions, loop.skipped) == (4, 0)
    assert begun[3] - begun[0] >= 89_000_000 - loop.wait.max_us * 1000
    assert loop.seconds >= 0.1
    assert loop.response.sum_us == pytest.approx(loop.wait.sum_us + loop.service.sum_us, rel=1e-9)


def test_seconds_are_those_of_the_intended_starts() -> None:
    before = time.time()
    loop = open_loop(lambda: STORED, 1.1, 50)
    assert sum(latencies.count for _, latencies in loop.by_second) == loop.transactions == 55
    starts = [start for start, _ in loop.by_second]
    assert starts == sorted(starts)
    assert all(start == int(start) and before - 1 <= start <= time.time() for start in starts)


def test_the_worker_time_of_a_loop_is_what_it_spent() -> None:
    def work() -> Attempt:
        end = time.process_time() + 0.001
        while time.process_time() < end:
            pass
        return STORED

    before = time.process_time()
    busy = closed_loop(work, 0.2)
    spent = time.process_time() - before
    assert 0.001 * busy.transactions <= busy.cpu_s <= spent
    idle = open_loop(lambda: STORED, 0.2, 50)
    assert idle.cpu_s < 0.1 * idle.seconds
