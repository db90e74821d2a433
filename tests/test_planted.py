"""A known effect is found again: an arm that runs the transaction twice loses half, one of its equal nothing.

How often an interval holds the planted effect needs many runs: `benchmarks/planted_effects.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.analysis.statistics import Impact, paired_impact
from bench.load.arms import two_arms
from bench.load.slots import run_pairs, slot_order
from bench.load.workload import SlotRequest, WorkerSettings
from bench.oracle.verify import verify
from logger.database import connect

PARAMETERS = 40
PAIRS = 8
SLACK = 0.1
"""One interval of twenty misses what it should hold, but by little."""
WARM, MEASURED = SlotRequest(PARAMETERS, ramp_s=0.3), SlotRequest(PARAMETERS, ramp_s=0.03, saturated_s=0.15)


def loss(postgres: str, b: str) -> Impact:
    """Throughput that arm B loses against the baseline; what both stored is verified."""
    settings = WorkerSettings(postgres, "", "", (PARAMETERS,), running=True)
    with connect(postgres) as monitor, two_arms(monitor, ("baseline", b), settings) as arms:
        for arm in arms:
            arm.run(WARM)
        order = slot_order(PAIRS, seed=1)
        pairs = run_pairs(arms, MEASURED, order, monitor, lambda: None, most_repeats=0)
        for arm in arms:
            with connect(postgres, arm.schema) as connection:
                assert verify(connection).violations == 0
    reached = [
        [slot.result.saturated.per_second for slot in slots if slot.result.saturated]
        for slots in zip(*((pair.a, pair.b) for pair in pairs), strict=True)
    ]
    return paired_impact(reached[0], reached[1]).negated()


@pytest.fixture
def planted_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `planted_arms` importable, here and in workers: they are given this sys.path."""
    folder = Path(__file__).parent.parent / "benchmarks"
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])  # last: its logger.py would hide the package


@pytest.mark.usefixtures("planted_arms")
def test_twice_the_work_is_half_the_throughput(postgres: str) -> None:
    found = loss(postgres, "planted_arms:Twice")
    assert found.low - SLACK < 0.5 < found.high + SLACK
    assert found.effect > 0.15


@pytest.mark.long
def test_the_same_work_loses_nothing(postgres: str) -> None:
    found = loss(postgres, "baseline")
    assert found.low - SLACK < 0 < found.high + SLACK
    assert found.effect < 0.35
