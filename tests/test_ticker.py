"""The ticker wakes each who waits at its due time, in order, and lets the event loop go on meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from scripted_plc import in_loop

from logger.reading.ticker import Ticker

MS = 1_000_000


@pytest.fixture(params=[True, False], ids=["timerfd", "the loop's timers"])
def ticker(request: pytest.FixtureRequest) -> Ticker:
    made = Ticker()
    if not request.param and made._timer is not None:
        made._timer.close()
        made._timer = None
    return made


def test_each_is_woken_when_it_is_due_and_never_before(ticker: Ticker) -> None:
    woken: list[int] = []

    async def wait(number: int, due_ns: int, stop: asyncio.Event) -> None:
        assert await ticker.wait_until(due_ns, stop)
        assert time.monotonic_ns() >= due_ns
        woken.append(number)

    async def scenario() -> None:
        with ticker:
            stop, start = asyncio.Event(), time.monotonic_ns() + 5 * MS
            dues = {number: start + (number * 7 % 20) * MS for number in range(20)}
            await asyncio.gather(*(wait(number, due, stop) for number, due in dues.items()))
            assert woken == sorted(dues, key=lambda number: dues[number])

    in_loop(scenario())


def test_a_later_due_time_does_not_hide_an_earlier_one(ticker: Ticker) -> None:
    async def scenario() -> None:
        with ticker:
            stop, now = asyncio.Event(), time.monotonic_ns()
            late = asyncio.ensure_future(ticker.wait_until(now + 3600 * 1000 * MS, stop))
            await asyncio.wait_for(ticker.wait_until(now + 20 * MS, stop), 5)
            assert not late.done()
            stop.set()
            assert not await asyncio.wait_for(late, 5)

    in_loop(scenario())


def test_the_loop_goes_on_while_somebody_waits(ticker: Ticker) -> None:
    """The control: a sleep of the same length lets nobody else run."""

    async def turns(until_ns: int) -> int:
        count = 0
        while time.monotonic_ns() < until_ns:
            await asyncio.sleep(0)
            count += 1
        return count

    async def scenario() -> None:
        with ticker:
            until = time.monotonic_ns() + 30 * MS
            others = asyncio.ensure_future(turns(until))
            await ticker.wait_until(until, asyncio.Event())
            assert await others > 5
            until = time.monotonic_ns() + 30 * MS
            others = asyncio.ensure_future(turns(until))
            time.sleep(0.031)  # noqa: ASYNC251 - what the ticker must not do
            assert await others == 0

    in_loop(scenario())


def test_a_stop_wakes_those_whom_it_stops_and_no_others(ticker: Ticker) -> None:
    async def scenario() -> None:
        with ticker:
            mine, other, soon = asyncio.Event(), asyncio.Event(), time.monotonic_ns() + 40 * MS
            far = time.monotonic_ns() + 3600 * 1000 * MS
            stopped = [asyncio.ensure_future(ticker.wait_until(far, mine)) for _ in range(3)]
            going_on = asyncio.ensure_future(ticker.wait_until(soon, other))
            await asyncio.sleep(0)
            mine.set()
            assert await asyncio.wait_for(asyncio.gather(*stopped), 5) == [False] * 3
            assert await going_on
            assert time.monotonic_ns() >= soon
            assert not await ticker.wait_until(0, mine)  # stopped already
            assert await ticker.wait_until(0, other)  # due already

    in_loop(scenario())


def test_one_who_gives_up_holds_up_nobody(ticker: Ticker) -> None:
    async def scenario() -> None:
        with ticker:
            stop, now = asyncio.Event(), time.monotonic_ns()
            first = asyncio.ensure_future(ticker.wait_until(now + 10 * MS, stop))
            second = asyncio.ensure_future(ticker.wait_until(now + 20 * MS, stop))
            await asyncio.sleep(0)
            first.cancel()
            assert await asyncio.wait_for(second, 5)

    in_loop(scenario())


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_close_gives_the_timer_back() -> None:
    async def scenario() -> None:
        before = open_files()
        for _ in range(20):
            ticker = Ticker()
            waiting = asyncio.ensure_future(ticker.wait_until(time.monotonic_ns() + 10**12, asyncio.Event()))
            await asyncio.sleep(0)
            ticker.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert open_files() == before

    in_loop(scenario())
