"""The suite's part memory: sizes, a leak that is planted and found, and silence where nothing can be said."""

from __future__ import annotations

import math

import pytest
from fix_checks import run_part

from bench.analysis.leak import judge_leak
from bench.analysis.verdict import Outcome
from bench.suite import memory
from bench.suite.memory import _judged

SECONDS = 3600.0


@pytest.mark.parametrize(("slope_mb_per_h", "outcome"), [(0.0, Outcome.PASS), (60.0, Outcome.FAIL)])
def test_growth_is_judged_where_the_run_is_long_enough(slope_mb_per_h: float, outcome: Outcome) -> None:
    times = [10.0 * n for n in range(360)]
    used = [50e6 + slope_mb_per_h * 1e6 * at / SECONDS + 4096 * (n % 5) for n, at in enumerate(times)]
    verdict = judge_leak(times, used, budget_mb_per_h=4.0, window_s=60.0)
    judgement = _judged(verdict, "baseline", "worker", SECONDS)
    assert judgement is not None
    assert judgement.outcome is outcome
    assert _judged(verdict, "baseline", "worker", seconds=8.0) is None  # a few pages are no leak
    few = judge_leak(times[:30], used[:30], budget_mb_per_h=4.0, window_s=60.0)
    assert _judged(few, "baseline", "worker", SECONDS) is None


@pytest.mark.long
def test_part_memory_measures_sizes_and_finds_a_planted_leak(postgres: str) -> None:
    section = run_part(
        postgres,
        memory,
        arms=("synchronizing", "fix_checks:Leaking"),
        parameters=[20],
        scans=[1, 200],
        slot_s=0.1,
        leak_s=4.0,
        leak_window_s=0.25,
        leak_budget_mb_per_h=1000.0,
    )
    small, large = (section.figures["synchronizing"][f"20 parameters, {n} scans"] for n in (1, 200))
    assert large["peak_bytes"] > small["peak_bytes"] + 200 * 20 * 8
    assert small["processes"] == 2
    assert small["backend_bytes"] > 0
    of_size = next(f for f in section.findings if f.metric == "memory_mb" and not math.isnan(f.low))
    assert of_size.low <= of_size.value <= of_size.high
    growth = {f.at["repository"]: f for f in section.findings if f.metric == "memory_growth_mb_per_h"}
    planted = growth["fix_checks:Leaking"]
    assert planted.outcome is Outcome.FAIL
    assert planted.value > 1000
    assert growth["synchronizing"].outcome is not Outcome.FAIL
    assert all(one.violations == 0 for one in section.verifications.values())
