"""Little's law and steady state where they are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_sweep_live import TRIAL, logger_run

from bench.measuring.latency import latencies_of
from bench.measuring.resources import ServerCounters
from bench.suite.levels import Level
from bench.sweep.doubts import doubts_of

MS = 1_000_000


@pytest.mark.parametrize(("service_ms", "holds"), [(8.0, True), (6.0, False)])
def test_a_level_knows_whether_its_requests_were_with_the_server(service_ms: float, holds: bool) -> None:
    level = Level(8, slots_per_s=[990.0, 1010.0], service=[latencies_of([round(service_ms * MS)] * 100)] * 2)
    assert level.little.holds is holds
    assert level.to_json()["little"]["in_system"] == pytest.approx(service_ms)
    assert ("generator held 25%" in level.to_json()["little"]["why"]) is not holds
    assert not Level(8).little.holds


@pytest.mark.parametrize(
    ("slow", "said"), [(0, ""), (10, "steady only after 10 s"), (40, "never became steady")]
)
def test_a_run_whose_response_settles_late_or_never_is_doubted(slow: int, said: str) -> None:
    """60 parts of a second each; the first ones are three times as slow as the rest."""
    parts = tuple(latencies_of([MS * (15 if n < slow else 5)] * 20) for n in range(60))
    run = replace(logger_run([5.0]), response_parts=parts, window_s=60.0)
    quiet = ServerCounters(0, 1, 5, 2, 0, 0, 0, 0, 0)
    found = doubts_of(TRIAL, [run, run], 0.5, quiet, quiet)
    assert [said in doubt for doubt in found] == ([True] if said else [])
    short = replace(run, response_parts=parts[:20])
    assert doubts_of(TRIAL, [short], 0.5, quiet, quiet) == []
