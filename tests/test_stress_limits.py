"""Operational limits and the stress file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.finding import Finding
from bench.analysis.verdict import Outcome
from bench.stress.limits import limits_table, operational_limits, unconfirmed
from bench.stress.plan import StressPlan, load_plan, short_plan
from plcsim.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "configs" / "bench" / "stress.yaml"


def limit(value: float, cell: str, resource: str = "rate", confirmed: int = 3, **more: Any) -> Finding:
    at = {
        "resource": resource,
        "repository": "baseline",
        "rule": "it broke",
        "cause": "",
        "confirmed": confirmed,
    }
    return Finding("limit", value, value, more.pop("high", 1.1 * value), "tx/s", cell, at, **more)


def test_the_smallest_confirmed_limit_of_each_resource_times_the_factor() -> None:
    findings = [
        limit(1000, "escalation"),
        limit(800, "storm", high=math.nan),
        limit(100, "seen once", confirmed=1),
        limit(90, "left open", outcome=Outcome.INCONCLUSIVE),
        limit(0, "nothing held"),
        limit(200, "connections", resource="connections"),
        Finding("throughput", 5.0, 4.0, 6.0, "tx/s", "elsewhere"),
    ]
    rate, connections = operational_limits(findings, 0.7)
    assert (rate.held, rate.allowed, rate.cell) == (800, 560, "storm")
    assert math.isnan(rate.broke)
    assert (connections.allowed, connections.broke) == (140, pytest.approx(220))
    assert unconfirmed(findings) == ["seen once"]
    shown = limits_table([rate, connections], 0.7).to_markdown()
    assert "560 tx/s" in shown
    assert "0.7 of what held" in shown


def test_a_small_limit_is_not_rounded_to_nothing() -> None:
    (found,) = operational_limits([limit(1, "one")], 0.7)
    assert found.allowed == pytest.approx(0.7)


def test_the_example_says_what_is_done_without_a_file() -> None:
    assert load_plan(EXAMPLE) == StressPlan()
    assert load_plan(EXAMPLE, short=True) == short_plan()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("full:\n  storm:\n    wavs: 3\n", ":3: full.storm.wavs"),
        ("full:\n  storm:\n    waves: 0\n", ":3: full.storm.waves"),
        ("full:\n  storm:\n    waves: many\n", ":3: full.storm.waves"),
        ("full:\n  safety: 1.5\n", ":2: full.safety"),
        ("short:\n  storm:\n    transactions: [10, 10]\n", ":3: short.storm.transactions: [10, 10]"),
        ("full:\n  escalation:\n    resources: [rate, disk]\n", ":3: full.escalation.resources"),
        ("short:\n  pool_exhaustion:\n    sizes: []\n", ":3: short.pool_exhaustion.sizes"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "stress.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    assert f"{path}{says}" in str(caught.value)
