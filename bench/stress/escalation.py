"""Scenario: load grows by half until something breaks, then the limit is narrowed down and confirmed.

The rate over a fixed number of connections, the parameters of one machine, the connections; each
through every arm. The breaking point is [last good, first bad] with the stop rule that fired and the
resource at its limit; a limit of the load generator is called that, and then none was reached.
"""

from __future__ import annotations

import math
import time
from typing import Any

from psycopg import Connection

from bench.analysis.breaking_point import BreakingPoint, Search
from bench.analysis.finding import Finding
from bench.load.arms import growing_wal
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress
from bench.stress.crowd_worker import crowd_machine
from bench.stress.holdings import Holdings
from bench.stress.loads import Measured, load
from bench.stress.plan import EscalationPlan, Resource, StressPlan
from bench.stress.server import Server

NAME = "escalation"
TITLE = "Load grows until something breaks: rate, parameters of a machine, connections"

_WAL_SEGMENTS = 60
"""Of 16 MB, made beforehand: else the server makes them in the middle of somebody's commit."""
_OVERHEAD_S = 1.0
"""Of a probe beside its window."""
_USUAL_PROBES = 14


def planned_seconds(plan: StressPlan) -> float:
    part = plan.escalation
    probes = min(part.most_probes, _USUAL_PROBES)
    return 2 * len(part.resources) * probes * (part.window_s + part.settle_s + _OVERHEAD_S)


def run(bench: Stress, section: Section) -> None:
    """Find every limit of every arm. Raises PlcsimError."""
    found: dict[tuple[str, str], BreakingPoint] = {}
    with bench.server() as server, server.connect() as monitor:
        monitor.execute("SET statement_timeout = 0")  # a checkpoint takes as long as it takes
        with growing_wal(server.conninfo, _WAL_SEGMENTS if server.is_own else 0) as grown:
            grown.result()
        for resource in bench.plan.escalation.resources:
            for arm in bench.distinct_arms:
                if server.is_own:
                    monitor.execute("CHECKPOINT")  # none falls into a window; the log's files are used again
                found[resource, arm] = _escalate(bench, section, server, monitor, resource, arm)
                _note(section, found, bench.plan.escalation)


def search(plan: EscalationPlan, resource: Resource, free_connections: int | None = None) -> Search:
    """The search of a resource's limit; of connections among so many, where the server is not ours."""
    connections = plan.most_connections
    if free_connections is not None:
        connections = max(1, min(connections, free_connections))
    start, most = {
        "rate": (plan.start_rate_per_s, math.inf),
        "parameters": (float(plan.start_parameters), float(plan.most_parameters)),
        "connections": (float(min(plan.start_connections, connections)), float(connections)),
    }[resource]
    return Search(
        start,
        tolerance=plan.tolerance,
        most=max(start, most),
        least=5.0 if resource == "parameters" else None,
        whole=resource != "rate",
        confirm_good=plan.confirm_good,
        confirm_bad=plan.confirm_bad,
        most_probes=plan.most_probes,
    )


def _escalate(
    bench: Stress, section: Section, server: Server, monitor: Connection[Any], resource: Resource, arm: str
) -> BreakingPoint:
    plan = bench.plan
    probes = section.figures.setdefault("probes", {}).setdefault(resource, {}).setdefault(arm, [])
    machines = range(plan.escalation.rate_connections if resource == "rate" else 0)
    configs = [crowd_machine(i, plan.parameters, shared=False) for i in machines]
    looking = search(plan.escalation, resource, server.spare_connections())
    with server.schema("escalation", configs, arm) as schema:
        holdings = Holdings(section, server, schema, arm)
        with load(resource, arm, plan, server, monitor, schema) as (level_of, crowd):
            while (level := looking.next()) is not None:
                begun = time.monotonic()
                measured = level_of.try_level(level)
                looking.observe(level, measured[0])
                probes.append(_probe_json(level, measured))
                bench.say(f"{resource} of {arm}", time.monotonic() - begun)
        holdings.check(resource, [crowd])
    return looking.result


def unit_of(resource: str, plan: EscalationPlan) -> str:
    """What a level counts, with what was held fixed."""
    return {
        "rate": f"transactions/s over {plan.rate_connections} connections",
        "parameters": f"parameters every {plan.interval_s:g} s",
        "connections": "connections",
    }[resource]


def _probe_json(level: float, measured: Measured) -> dict[str, Any]:
    observation, window, pressure = measured
    return {
        "level": level,
        "ok": observation.ok,
        "rule": observation.rule,
        "cause": observation.cause,
        "is_generators": observation.is_generators,
        "window": window.to_json() if window else None,
        "pressure": pressure.to_json() if pressure else None,
    }


def _note(section: Section, found: dict[tuple[str, str], BreakingPoint], plan: EscalationPlan) -> None:
    """Enter what is known so far."""
    section.figures["breaking_points"] = [
        {"resource": resource, "repository": arm, **point.to_json()}
        for (resource, arm), point in found.items()
    ]
    section.findings = [
        limit_of(resource, arm, point, unit_of(resource, plan)) for (resource, arm), point in found.items()
    ]
    section.tables = [_table(found, plan)]
    ratios = limit_ratios(found)
    if ratios:
        section.figures["ratios"] = [
            {"resource": resource, "share_low": low, "share_high": high} for resource, low, high in ratios
        ]
        rows = [(unit_of(resource, plan), f"{low:.0%} to {high:.0%}") for resource, low, high in ratios]
        note = (
            "From B's lower end over A's upper end to the other way round. One arm was searched after the "
            "other, so a drift of the machine is in it: what B costs is the suite's to say."
        )
        section.tables.append(Table("B's limit as a share of A's", ("grew", "share"), list(rows), note))


def limit_ratios(found: dict[tuple[str, str], BreakingPoint]) -> list[tuple[str, float, float]]:
    """(resource, lowest, highest) of B's limit as a share of A's, where both were reached."""
    ratios = []
    for resource in dict.fromkeys(resource for resource, _ in found):
        points = [point for (name, _), point in found.items() if name == resource and point.limit_reached]
        if len(points) == 2 and all(point.last_good > 0 for point in points):
            a, b = points
            assert a.first_bad is not None
            assert b.first_bad is not None
            ratios.append((resource, b.last_good / a.first_bad, b.first_bad / a.last_good))
    return ratios


def limit_of(resource: str, arm: str, point: BreakingPoint, unit: str) -> Finding:
    """A breaking point as a finding: what held; from where to where it lies."""
    reached = point.limit_reached
    return Finding(
        "limit",
        point.last_good,
        point.last_good,
        point.first_bad if reached and point.first_bad else math.nan,
        unit,
        f"{NAME} {resource} {arm}",
        {
            "resource": resource,
            "repository": arm,
            "rule": point.rule if reached else "limit not reached",
            "cause": point.cause,
            "confirmed": point.confirmed_good,
        },
    )


def _said_of(point: BreakingPoint, tolerance: float) -> str:
    """Whether the limit was reached, and how well it is known."""
    if not point.limit_reached or point.first_bad is None:
        return "no: at least what held"
    is_wide = point.is_exhausted and point.first_bad > (1 + tolerance) * point.last_good + 1
    return "yes, but no probes were left to narrow it down" if is_wide else "yes"


def _table(found: dict[tuple[str, str], BreakingPoint], plan: EscalationPlan) -> Table:
    rows = [
        (
            unit_of(resource, plan),
            arm,
            f"{point.last_good:,.0f} ({point.confirmed_good}×)",
            f"{point.first_bad:,.0f} ({point.confirmed_bad}×)" if point.first_bad else "—",
            point.rule or "—",
            point.cause or "—",
            _said_of(point, plan.tolerance),
        )
        for (resource, arm), point in found.items()
    ]
    return Table(
        "Breaking points",
        ("grew", "arm", "held", "broke", "rule that fired", "at its limit", "limit reached"),
        list(rows),
        "Between what held and what broke lies the limit; × says how often each was seen. Where the load "
        "generator was at its limit the database's is higher. Connections go as fast as they can: they wait "
        "for each other, and their response is the time of the transaction alone.",
    )
