"""When scans are due: on a grid that never drifts, each with its number, what is missed counted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logger.reading.schedule import Due, Schedule

MS = 1_000_000
START = 123_456_789_012_345


class Clock:
    """A clock that stands until it is told to go on; nanoseconds."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_first_scan_is_due_at_once_and_the_next_an_interval_later(clock: Clock) -> None:
    schedule = Schedule(0.5, 41, clock)
    assert schedule.next_due() == Due(41, START, 0)
    assert schedule.next_due() == Due(42, START + 500 * MS, 0)


@pytest.mark.parametrize(("hours", "every"), [(1, 1), (24, 100)])
def test_a_day_of_10_ms_does_not_drift(clock: Clock, hours: int, every: int) -> None:
    schedule = Schedule(0.01, 1, clock)
    scans = hours * 60 * 60 * 100
    for _ in range(0, scans, every):
        due = schedule.next_due()
        clock.now = due.due_ns + every * 10 * MS + 3 * MS  # each starts 3 ms late, after 0 or 99 missed
    last = scans - every + 1
    assert due == Due(last, START + (last - 1) * 10 * MS, every - 1)


@pytest.mark.parametrize("interval_s", [0.01, 1 / 3, 0.1, 1.0, 86_400.0])
def test_dues_are_whole_intervals_from_the_start(clock: Clock, interval_s: float) -> None:
    schedule = Schedule(interval_s, 1, clock)
    dues = []
    for _ in range(1000):
        due = schedule.next_due()
        clock.now = due.due_ns
        dues.append(due.due_ns - START)
    assert dues == [n * round(interval_s * 1e9) for n in range(1000)]


def test_scan_that_starts_late_keeps_its_due_time(clock: Clock) -> None:
    schedule = Schedule(1.0, 1, clock)
    schedule.next_due()
    clock.now += 1999 * MS  # scan 2 is 999 ms late, which is not missed
    assert schedule.next_due() == Due(2, START + 1000 * MS, 0)
    assert schedule.next_due() == Due(3, START + 2000 * MS, 0)


@pytest.mark.parametrize(
    ("gone_ms", "number", "missed"),
    [(999, 2, 0), (1000, 2, 0), (1999, 2, 0), (2000, 3, 1), (2999, 3, 1), (10_000, 11, 9)],
)
def test_scans_whose_time_has_passed_are_missed(clock: Clock, gone_ms: int, number: int, missed: int) -> None:
    schedule = Schedule(1.0, 1, clock)
    assert schedule.next_due().number == 1
    clock.now += gone_ms * MS
    due = schedule.next_due()
    assert due == Due(number, START + (number - 1) * 1000 * MS, missed)
    assert due.due_ns <= max(clock.now, START + 1000 * MS)


@given(st.lists(st.integers(0, 5_000), max_size=60))
def test_scans_and_misses_together_number_every_interval(taken_ms: list[int]) -> None:
    clock = Clock()
    schedule = Schedule(0.1, 1000, clock)
    expected = 1000
    for taken in taken_ms:
        due = schedule.next_due()
        assert due.number - due.missed == expected
        assert due.due_ns == START + (due.number - 1000) * 100 * MS
        assert due.due_ns + 100 * MS > clock.now  # what is due now was never missed already
        expected = due.number + 1
        clock.now = max(clock.now, due.due_ns) + taken * MS


def test_interval_zero_is_due_whenever_the_last_scan_is_done(clock: Clock) -> None:
    schedule = Schedule(0, 5, clock)
    assert schedule.next_due() == Due(5, START, 0)
    clock.now += 7_000 * MS
    assert schedule.next_due() == Due(6, START + 7_000 * MS, 0)
    assert schedule.next_due() == Due(7, START + 7_000 * MS, 0)


def test_it_runs_on_the_monotonic_clock_by_default() -> None:
    before = time.monotonic_ns()
    assert before <= Schedule(1.0, 1).next_due().due_ns <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("late_ms", "first_ms"), [(0, 300), (300, 300), (1299, 300), (1300, 1300), (7350, 7300)]
)
def test_what_was_due_before_polling_began_is_not_missed(clock: Clock, late_ms: int, first_ms: int) -> None:
    """A thousand devices take a second to get ready; each keeps its phase."""
    schedule = Schedule(1.0, 41, clock, START + 300 * MS)
    clock.now += late_ms * MS
    schedule.begin()
    assert schedule.next_due() == Due(41, START + first_ms * MS, 0)
    schedule.begin()  # only before the first
    clock.now = START + (first_ms + 3500) * MS
    assert schedule.next_due() == Due(44, START + (first_ms + 3000) * MS, 2)
