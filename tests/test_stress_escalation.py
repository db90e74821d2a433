"""Escalation against a planted limit, and against the database."""

from __future__ import annotations

from typing import Any

import pytest
from planted import PLANTED_PER_S

from bench.analysis.breaking_point import BreakingPoint
from bench.oracle.invariants import INVARIANTS
from bench.section import Section
from bench.stress import escalation
from bench.stress.context import Stress
from bench.stress.escalation import limit_of
from bench.stress.loads import load
from bench.stress.plan import EscalationPlan, Resource, StressPlan
from bench.stress.server import stress_server
from logger.database import connect


def plan(*resources: Resource, **more: Any) -> StressPlan:
    return StressPlan(
        parameters=5,
        workers=1,
        escalation=EscalationPlan(
            resources=list(resources), window_s=0.9, settle_s=0.2, confirm_good=1, rate_connections=1, **more
        ),
    )


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


def test_connections_that_the_server_does_not_have_end_the_growth(postgres: str) -> None:
    """A server of 12: the limit is named, and everything that was stored is right."""
    section = Section("escalation")
    few = plan("connections", start_connections=4, tolerance=0.5, p99_ms=5000.0)
    with stress_server(None, {"max_connections": "12", "reserved_connections": "0"}) as server:
        bench = Stress(few, ("synchronizing", "synchronizing"), url=server.conninfo)
        escalation.run(bench, section)
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
    finding = limit_of("rate", "baseline", generators)
    assert (finding.value, finding.at["rule"]) == (900, "limit not reached")
    assert not finding.has_interval
    reached = BreakingPoint(900, 1000, "the backlog grew", "the disk", 3, 2, limit_reached=True)
    assert (limit_of("rate", "baseline", reached).low, limit_of("rate", "baseline", reached).high) == (
        900,
        1000,
    )
