"""What the wall clock may do to a logger: be set, and go on while the logger is away. Scans go on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logger.reading.clock_watch import ClockStep, ClockWatch
from logger.reading.restart import gap_over_restart
from logger.reading.schedule import Schedule, staggered
from logger.scan import Gap

NS = 1_000_000_000
US = 1_000_000
START_US = 1_700_000_000 * US


@dataclass
class Clocks:
    """A wall clock and a monotonic clock that a test moves."""

    wall: int = START_US * 1000
    monotonic: int = 77 * NS

    def go_on(self, seconds: float, wall_s: float | None = None) -> None:
        self.monotonic += round(seconds * NS)
        self.wall += round((seconds if wall_s is None else wall_s) * NS)


def watched(clocks: Clocks) -> tuple[ClockWatch, list[ClockStep]]:
    steps: list[ClockStep] = []
    return ClockWatch(steps.append, lambda: clocks.wall, lambda: clocks.monotonic), steps


@pytest.mark.parametrize("step_s", [0.6, -0.6, 3600.0, -86_400.0])
def test_a_step_is_reported_once_with_its_size_and_time(step_s: float) -> None:
    clocks = Clocks()
    watch, steps = watched(clocks)
    clocks.go_on(1.0)
    watch.check()
    assert steps == []
    clocks.go_on(1.0, 1.0 + step_s)
    watch.check()
    (step,) = steps
    assert (round(step.seconds, 6), step.at_us) == (step_s, clocks.wall // 1000)
    assert f"{abs(step_s):.3f} s {'forwards' if step_s > 0 else 'backwards'}" in str(step)
    clocks.go_on(1.0)
    watch.check()
    assert watch.steps == len(steps) == 1


def test_slow_correction_is_no_step_however_far_it_goes() -> None:
    clocks = Clocks()
    watch, steps = watched(clocks)
    for _ in range(20_000):
        clocks.go_on(1.0, 1.0005)  # NTP slews by 500 parts in a million at most
        watch.check()
    assert steps == []
    clocks.go_on(1.0, 0.45)
    watch.check()
    assert len(steps) == 1


def test_a_step_moves_no_due_time() -> None:
    clocks = Clocks()
    watch, steps = watched(clocks)
    schedule = Schedule(1.0, 1, lambda: clocks.monotonic)
    dues = []
    for n in range(10):
        dues.append(schedule.next_due())
        clocks.go_on(1.0, 3601.0 if n == 4 else 1.0)
        watch.check()
    assert len(steps) == 1
    assert [(due.number, due.due_ns, due.missed) for due in dues] == [
        (n + 1, (77 + n) * NS, 0) for n in range(10)
    ]


def test_first_values_of_a_slow_group_do_not_wait_for_its_interval() -> None:
    assert [staggered(7, 3600.0, i, 4) - 7 for i in range(4)] == [i * round(1.25 * NS) for i in range(4)]


@pytest.mark.parametrize(("count", "interval_s"), [(1, 1.0), (2, 1.0), (1000, 1.0), (7, 0.1)])
def test_devices_are_spread_evenly_over_the_interval(count: int, interval_s: float) -> None:
    starts = [staggered(5 * NS, interval_s, i, count) for i in range(count)]
    assert starts[0] == 5 * NS
    apart = interval_s * NS / count
    assert all(abs(start - 5 * NS - i * apart) <= 1 for i, start in enumerate(starts))
    schedule = Schedule(interval_s, 1, lambda: 5 * NS, starts[-1])
    assert schedule.next_due() == (1, starts[-1], 0)
    assert schedule.next_due() == (2, starts[-1] + round(interval_s * NS), 0)


@dataclass
class Last:
    """What the spool knows of the newest item."""

    recorded_at_us: int


@pytest.mark.parametrize(
    ("away_s", "clean", "missed"),
    [
        (0.0, True, 0),
        (0.9, True, 0),
        (1.0, True, 1),
        (3600.0, True, 3600),
        (0.0, False, 1),
        (0.9, False, 1),
        (2.5, False, 2),
        (-3600.0, True, 0),
        (-3600.0, False, 1),
    ],
)
def test_what_was_missed_while_the_logger_was_away(away_s: float, clean: bool, missed: int) -> None:
    now_us = START_US + round(away_s * US)
    gap = gap_over_restart(Last(START_US), clean, 1.0, now_us, 42)
    if missed == 0:
        assert gap is None
        return
    reason = "the logger was not running" if clean else "the logger was killed, or crashed"
    assert gap == Gap(42, 41 + missed, reason, min(START_US + US, now_us), now_us)


def test_a_first_start_has_missed_nothing() -> None:
    assert gap_over_restart(None, False, 1.0, START_US, 1) is None


@given(st.floats(0.01, 100.0), st.integers(-(10**12), 10**15), st.booleans(), st.integers(1, 2**40))
def test_the_gap_is_never_longer_than_the_time_away(
    interval_s: float, away_us: int, clean: bool, number: int
) -> None:
    gap = gap_over_restart(Last(START_US), clean, interval_s, START_US + away_us, number)
    missed = 0 if gap is None else gap.last_scan - gap.first_scan + 1
    assert gap is None or gap.first_scan == number
    assert missed >= (not clean)
    assert missed <= max(not clean, away_us / round(interval_s * 1e6))
    assert missed + 1 > away_us / round(interval_s * 1e6)


def test_polling_as_fast_as_it_goes_misses_only_the_scan_in_hand() -> None:
    assert gap_over_restart(Last(START_US), True, 0, START_US + 10 * US, 7) is None
    gap = gap_over_restart(Last(START_US), False, 0, START_US + 10 * US, 7)
    assert gap is not None
    assert (gap.first_scan, gap.last_scan) == (7, 7)
