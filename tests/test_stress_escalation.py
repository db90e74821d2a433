"""Escalation against a planted limit, and against the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from planted import PLANTED_PER_S

from bench.analysis.breaking_point import BreakingPoint, Observation
from bench.oracle.invariants import INVARIANTS
from bench.section import Section
from bench.stress import escalation
from bench.stress.context import Stress
from bench.stress.escalation import limit_of, limit_ratios
from bench.stress.loads import load
from bench.stress.plan import EscalationPlan, Resource, StressPlan
from bench.stress.server import Server, stress_server
from logger.database import connect


def plan(*resources: Resource, **more: Any) -> StressPlan:
    return StressPlan(
        parameters=5,
        workers=1,
        escalation=EscalationPlan(
            resources=list(resources), window_s=0.9, settle_s=0.2, confirm_good=1, rate_connections=1, **more
        ),
    )


class SmallServer(Stress):
    """Its own servers take 12 connections."""

    @contextmanager
    def server(
        self, settings: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Iterator[Server]:
        with stress_server(None, {"max_connections": "12"}, folder) as server:
            yield server


def schemas_left(postgres: str) -> list[Any]:
    with connect(postgres) as connection:
        statement = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%escalation'"
        return connection.execute(statement).fetchall()


@pytest.mark.slow
def test_a_planted_limit_of_500_a_second_is_bracketed_within_12_percent(postgres: str) -> None:
    arm = "planted:FiveHundred"
    section = Section("escalation")
    bench = Stress(plan("rate", start_rate_per_s=300.0), (arm, arm), url=postgres)
    escalation.run(bench, section)
    (point,) = section.figures["breaking_points"]
    assert PLANTED_PER_S / 1.12 <= point["last_good"] <= PLANTED_PER_S * 1.02
    assert point["first_bad"] <= PLANTED_PER_S * 1.12
    assert point["first_bad"] <= 1.12 * point["last_good"] * (1 + 1e-9)
    assert point["confirmed_bad"] >= 2
    assert point["limit_reached"]
    levels = [probe["level"] for probe in section.figures["probes"]["rate"][arm]]
    assert levels[:2] == [300.0, 450.0]
    (finding,) = section.findings
    assert (finding.metric, finding.at["resource"], finding.value) == ("limit", "rate", point["last_good"])
    assert schemas_left(postgres) == []


def test_what_is_not_limited_is_not_found_to_be(postgres: str) -> None:
    """The control: the same machinery at nearly twice the planted limit finds nothing wrong."""
    arm = "planted:Unlimited"
    with (
        stress_server(postgres) as server,
        server.connect() as monitor,
        server.schema("escalation", [], arm) as schema,
        load("rate", arm, plan("rate"), server, monitor, schema) as (level_of, _),
    ):
        observation, window, pressure = level_of.try_level(0.95 * 2 * PLANTED_PER_S)
    assert window is not None
    assert pressure is not None
    assert observation.ok or observation.is_generators or pressure.machine_busy > 0.9, observation
    assert window.stored == window.tried


@pytest.mark.long
def test_connections_that_the_server_does_not_have_end_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of 12: the limit is named, and everything that was stored is right."""
    monkeypatch.setattr(escalation, "_WAL_SEGMENTS", 1)
    section = Section("escalation")
    few = plan("connections", start_connections=6, tolerance=0.5, p99_ms=5000.0)
    escalation.run(SmallServer(few, ("synchronizing", "synchronizing")), section)
    (point,) = section.figures["breaking_points"]
    refused = [
        probe
        for probe in section.figures["probes"]["connections"]["synchronizing"]
        if probe["cause"] == "max_connections of the server"
    ]
    assert refused or point["rule"].startswith("throughput fell")
    assert 1 <= point["last_good"] < point["first_bad"] <= 14
    (verification,) = section.verifications.values()
    assert verification.violations == 0
    assert set(INVARIANTS) <= set(verification.checks)
    assert verification.rows > 0
    assert section.invalid == []


def test_a_limit_that_was_not_reached_is_not_given_as_one() -> None:
    generators = BreakingPoint(900, 1000, "the backlog grew", "the load generator", 3, 2, limit_reached=False)
    finding = limit_of("rate", "baseline", generators, "tx/s")
    assert (finding.value, finding.at["rule"]) == (900, "limit not reached")
    assert not finding.has_interval
    reached = BreakingPoint(900, 1000, "the backlog grew", "the disk", 3, 2, limit_reached=True)
    found = limit_of("rate", "baseline", reached, "tx/s")
    assert (found.low, found.high, found.at["cause"]) == (900, 1000, "the disk")


def test_of_a_given_server_some_connections_are_left_to_others(postgres: str) -> None:
    with stress_server(postgres) as given, given.connect() as connection:
        spare = given.spare_connections()
        free = connection.execute(
            "SELECT current_setting('max_connections')::int - count(*) FROM pg_stat_activity"
        ).fetchone()
    assert spare is not None
    assert free is not None
    assert 0 < spare < free[0]
    looking = escalation.search(EscalationPlan(start_connections=4), "connections", 6)
    tried = []
    while (level := looking.next()) is not None:
        tried.append(level)
        looking.observe(level, Observation(ok=True))
    assert max(tried) == 6
    assert not looking.result.limit_reached


def test_the_limits_of_both_arms_are_compared_by_their_ends() -> None:
    def point(good: float, bad: float, reached: bool = True) -> BreakingPoint:
        return BreakingPoint(good, bad, "the backlog grew", "the disk", 3, 2, limit_reached=reached)

    found = {
        ("rate", "a"): point(900, 1000),
        ("rate", "b"): point(700, 800),
        ("connections", "a"): point(50, 55),
        ("connections", "b"): point(40, 45, reached=False),
    }
    assert limit_ratios(found) == [("rate", 0.7, 800 / 900)]
