"""Leaks are found, and what only looks like one is not: trend against scipy, verdicts by simulation."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from waiting import wait_for

from bench.analysis.leak import FEWEST_WINDOWS, LeakVerdict, hours_until, judge_leak, window_minima
from bench.analysis.trend import trend_of
from bench.measuring.resources import process_use

Floats = NDArray[np.float64]
MB = 1e6
TEN_MINUTES = np.arange(0.0, 600.0)
BUDGET, WINDOW_S = 5.0, 30.0
LEAK = MB / 60
"""1 MB a minute, in bytes a second."""


def judged(used: Floats, times: Floats = TEN_MINUTES, budget: float = BUDGET) -> LeakVerdict:
    return judge_leak(times.tolist(), used.tolist(), budget, WINDOW_S)


def noise(seed: int, size_mb: float = 0.2) -> Floats:
    return np.random.default_rng(seed).normal(0, size_mb * MB, len(TEN_MINUTES))


def sawtooth(seed: int, period_s: int = 20, height_mb: float = 10) -> Floats:
    phase = np.random.default_rng(seed).integers(period_s)
    return np.asarray((TEN_MINUTES + phase) % period_s * height_mb * MB / period_s)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_trend_is_that_of_scipy(seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    x = np.sort(random.uniform(0, 50, 25))
    y = 0.05 * x + random.normal(size=25)
    if ties:
        y = np.round(y)
    trend = trend_of(x.tolist(), y.tolist(), autocorrelated=False)
    slope, _, low, high = stats.theilslopes(y, x, 0.95)
    assert (trend.slope, trend.low, trend.high) == pytest.approx((slope, low, high))
    # scipy's test has no continuity correction: ours is the more careful one, and close to it
    p = stats.kendalltau(x, y, method="asymptotic").pvalue
    assert p <= trend.p <= p + 0.06


def test_trend_of_an_example_worked_by_hand() -> None:
    # slopes of 0,1,3,2 at 0,1,2,3: 1, 1.5, 2/3, 2, 1/2, -1; median (2/3 + 1) / 2
    trend = trend_of([0, 1, 2, 3], [0, 1, 3, 2])
    assert trend.slope == pytest.approx((2 / 3 + 1) / 2)
    assert not trend.is_rising


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 1, 2], [1, 2, 3]), ([1, 2, 3], [1, 2, np.nan])])
def test_no_trend_of_too_little(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=r"points|ascend|figure"):
        trend_of(x, y)


def test_the_correction_for_memory_halves_false_alarms() -> None:
    random = np.random.default_rng(3)
    alarms = {True: 0, False: 0}
    for _ in range(200):
        walk = np.zeros(60)
        for i, shock in enumerate(random.normal(size=60)):
            walk[i] = 0.8 * walk[i - 1] + shock
        for corrected in alarms:
            alarms[corrected] += trend_of(range(60), walk.tolist(), corrected).p < 0.05
    assert alarms[False] > 60  # nominal: 10
    assert alarms[True] < 0.65 * alarms[False]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shape", ["straight", "sawtooth", "after a warm-up"])
def test_a_megabyte_a_minute_is_a_leak_within_ten_minutes(shape: str, seed: int) -> None:
    used = 50 * MB + LEAK * TEN_MINUTES + noise(seed)
    if shape == "sawtooth":
        used += sawtooth(seed)
    elif shape == "after a warm-up":
        used += 10 * MB * (1 - np.exp(-TEN_MINUTES / 60))
    verdict = judged(used)
    assert (verdict.is_leak, verdict.is_conclusive) == (True, True)
    assert verdict.slope_mb_per_h == pytest.approx(60, rel=0.1)
    assert verdict.low > BUDGET


SHAPES: dict[str, Callable[[int], Floats]] = {
    "sawtooth": lambda seed: 50 * MB + sawtooth(seed) + noise(seed),
    "slow sawtooth": lambda seed: 50 * MB + sawtooth(seed, 29) + noise(seed),
    "flat": lambda seed: np.full(600, 50 * MB),
    "warm-up": lambda seed: 50 * MB + 10 * MB * (1 - np.exp(-TEN_MINUTES / 60)) + noise(seed),
    "noise": noise,
    "falls": lambda seed: 50 * MB - LEAK * TEN_MINUTES + noise(seed),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_does_not_grow_is_no_leak(shape: str) -> None:
    verdicts = [judged(SHAPES[shape](seed)) for seed in range(60)]
    assert not any(verdict.is_leak for verdict in verdicts)
    assert np.mean([verdict.is_conclusive for verdict in verdicts]) > 0.8


@pytest.mark.parametrize(
    "used",
    [
        lambda seed: 50 * MB + 3 * MB * (150 + 5 * seed < TEN_MINUTES) + noise(seed),
        lambda seed: 50 * MB + 10 * MB * (1 - np.exp(-TEN_MINUTES / 200)) + noise(seed),
    ],
    ids=["a single step", "a warm-up that is not over"],
)
def test_what_rose_once_or_ever_slower_is_not_called_a_leak(used: Callable[[int], Floats]) -> None:
    verdicts = [judged(used(seed)) for seed in range(60)]
    assert np.mean([verdict.is_leak for verdict in verdicts]) <= 0.05
    assert any("rose once or ever slower" in verdict.why for verdict in verdicts)


def test_a_staircase_is_a_leak() -> None:
    """An allocator takes memory in steps; many of them are growth."""
    assert judged(50 * MB + MB * np.floor(TEN_MINUTES / 60)).is_leak


@pytest.mark.parametrize("size_mb", [0.2, 1.0])
def test_the_detectable_leak_is_called_one_in_four_runs_of_five(size_mb: float) -> None:
    flat = [judged(50 * MB + noise(seed, size_mb), budget=1e-6) for seed in range(60)]
    slope = float(np.median([verdict.detectable_mb_per_h for verdict in flat]))
    leaking = 50 * MB + slope * MB / 3600 * TEN_MINUTES
    found = [judged(leaking + noise(seed, size_mb), budget=1e-6).is_leak for seed in range(200)]
    assert 0.7 <= np.mean(found) <= 0.93


def test_growth_below_the_budget_is_said_and_is_none() -> None:
    verdict = judged(50 * MB + 3 * MB / 3600 * TEN_MINUTES + noise(1, 0.02))
    assert (verdict.is_leak, verdict.is_conclusive) == (False, True)
    assert "it grows, but" in verdict.why


def test_an_interval_on_the_budget_leaves_it_open() -> None:
    verdict = judged(50 * MB + LEAK * TEN_MINUTES + noise(1), budget=60)
    assert (verdict.is_leak, verdict.is_conclusive) == (False, False)
    assert "straddles" in verdict.why


def test_too_few_windows_say_nothing() -> None:
    times = np.arange(0.0, (FEWEST_WINDOWS - 1) * WINDOW_S)
    verdict = judged(50 * MB + LEAK * times, times)
    assert (verdict.is_leak, verdict.is_conclusive, verdict.plateau_s) == (False, False, None)
    assert "11 windows" in verdict.why
    assert verdict.to_json()["slope_mb_per_h"] is None
    assert judge_leak([], [], BUDGET, WINDOW_S).windows == 0


def test_the_warm_up_is_cut_where_it_ends() -> None:
    used = 50 * MB + np.minimum(TEN_MINUTES, 150) * MB / 10 + noise(2, 0.01)
    verdict = judged(used)
    assert verdict.plateau_s is not None
    assert 120 <= verdict.plateau_s <= 200
    assert not verdict.is_leak


def test_minima_of_windows_by_hand() -> None:
    times = np.array([0, 4, 9, 10, 19, 35, 39, 40.0])
    used = np.array([5, 3, 4, 8, 7, 2, 9, 1.0])
    at, lowest = window_minima(times, used, 10.0)
    # no sample in 20 to 30; the window from 40 on is not whole
    assert at.tolist() == [4, 19, 35]
    assert lowest.tolist() == [3, 7, 2]


def test_room_lasts_as_long_as_the_upper_end_says() -> None:
    leak = judged(50 * MB + LEAK * TEN_MINUTES)
    assert hours_until(600, leak.high) == pytest.approx(10, rel=0.01)
    assert hours_until(600, judged(50 * MB - LEAK * TEN_MINUTES).high) is None


@pytest.mark.parametrize(("budget", "window_s"), [(0.0, 30.0), (5.0, 0.0), (-1.0, 30.0)])
def test_nothing_is_judged_by_no_budget(budget: float, window_s: float) -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        judge_leak([0.0, 1.0], [1.0, 1.0], budget, window_s)


def test_samples_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match="time of its own"):
        judge_leak([0.0, 1.0, 1.0], [1.0, 1.0, 1.0], BUDGET, WINDOW_S)


_CHILD = """
import time
kept = []
while True:
    kept.append(bytearray(512 * 1024))
    if {collects} and len(kept) == 10:
        kept.clear()
    time.sleep(0.01)
"""


def sampled(collects: bool, seconds: float) -> tuple[list[float], list[float]]:
    """Private memory of a real process over time, every 10 ms or so."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD.format(collects=collects)])
    times, used = [], []
    try:
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            use = process_use(child.pid)
            assert use is not None
            times.append(now)
            used.append(float(use.private_bytes))
            wait_for(lambda at=now: time.monotonic() - start >= at + 0.01)  # type: ignore[misc]
    finally:
        child.kill()
        child.wait()
    return times, used


@pytest.mark.parametrize("collects", [False, True])
@pytest.mark.long
def test_a_real_process_that_keeps_what_it_allocates_leaks(collects: bool) -> None:
    verdict = judge_leak(*sampled(collects, 4.0), budget_mb_per_h=3600, window_s=0.2)
    assert verdict.is_leak is not collects, verdict.why
