"""Scenario: others use the processors; what is left of each arm's throughput and how late scans come."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.analysis.finding import Finding
from bench.analysis.statistics import mean_interval, paired_impact
from bench.load.arms import Arm, two_arms
from bench.load.slots import slot_order
from bench.load.work import Loop
from bench.load.workload import SlotRequest, WorkerSettings
from bench.measuring.latency import Merged
from bench.measuring.resources import process_use
from bench.oracle.verify import verify
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress
from bench.stress.hogs import Hogs
from bench.stress.plan import StressPlan

NAME = "cpu_hogs"
TITLE = "what is left of throughput and latency when others use the processors"

_RAMP_S = 0.1
_SHARE = 0.3
"""The fixed rate, as a share of what the slower arm reaches in quiet."""
_AROUND_S = 0.2
_PREPARE_S = 6.0


@dataclass
class _Seen:
    """The slots of one arm in one state."""

    per_second: list[float] = field(default_factory=list)
    paced: list[Loop] = field(default_factory=list)


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.cpu_hogs
    return _PREPARE_S + 4 * mine.pairs * (mine.slot_s + _RAMP_S + _AROUND_S)


def run(bench: Stress, section: Section) -> None:
    """Slots of both arms, in quiet and with the hogs, A B B A in each pair. Raises PlcsimError."""
    plan, parameters = bench.plan.cpu_hogs, bench.plan.parameters
    cores = os.cpu_count() or 1
    with (
        bench.server() as server,
        server.connect() as monitor,
        two_arms(monitor, bench.arms, WorkerSettings(server.conninfo, "", "", (parameters,), True)) as arms,
        Hogs(cores * plan.hogs_per_core) as hogs,
    ):
        rate = _warm_up(arms, parameters)
        seen = {(arm.name, state): _Seen() for arm in arms for state in (False, True)}
        request = SlotRequest(parameters, _RAMP_S, plan.slot_s / 2, plan.slot_s / 2, rate)
        try:
            _compare(bench, arms, hogs, request, seen)
        finally:
            hogs.loose(False)
            section.figures.update(
                {
                    "hogs": hogs.count,
                    "hogs_cpu_s": round(sum(use.cpu_s for use in map(process_use, hogs.pids) if use), 2),
                    "cores": cores,
                    "rate_per_s": rate,
                    "per_s": {f"{name}, {_state(s)}": each.per_second for (name, s), each in seen.items()},
                }
            )
        for arm in arms:
            with server.connect(arm.schema) as connection:
                section.verifications[arm.name] = verify(connection)
        _report(bench, section, arms, seen, hogs.count, rate)


def _warm_up(arms: Sequence[Arm], parameters: int) -> float:
    """Returns the fixed rate: one that both arms carry easily in quiet."""
    reached = []
    for arm in arms:
        arm.run(SlotRequest(parameters, ramp_s=0.5))
        loop = arm.run(SlotRequest(parameters, saturated_s=0.5)).saturated
        assert loop is not None
        reached.append(loop.per_second)
    return max(1.0, _SHARE * min(reached))


def _compare(
    bench: Stress,
    arms: Sequence[Arm],
    hogs: Hogs,
    request: SlotRequest,
    seen: dict[tuple[str, bool], _Seen],
) -> None:
    """The states alternate as the arms do, so that no drift of the machine follows either."""
    plan = bench.plan.cpu_hogs
    by_name = {arm.name: arm for arm in arms}
    for order, states in zip(
        slot_order(plan.pairs, bench.seed), slot_order(plan.pairs, bench.seed + 1), strict=True
    ):
        for letter in states:
            are_loose = letter == "B"
            hogs.loose(are_loose)
            for name in order:
                result = by_name[name].run(request)
                assert result.saturated is not None
                assert result.paced is not None
                seen[name, are_loose].per_second.append(result.saturated.per_second)
                seen[name, are_loose].paced.append(result.paced)
                bench.say(_state(are_loose), plan.slot_s + _RAMP_S + _AROUND_S)


def _report(
    bench: Stress,
    section: Section,
    arms: Sequence[Arm],
    seen: dict[tuple[str, bool], _Seen],
    hogs: int,
    rate: float,
) -> None:
    rows: list[Sequence[str]] = []
    for state in (False, True):
        loss = paired_impact(seen["A", state].per_second, seen["B", state].per_second).negated()
        section.figures[f"loss, {_state(state)}"] = loss.to_json()
        rows += [
            _row(section, arm, state, seen[arm.name, state], hogs, bench.plan.parameters) for arm in arms
        ]
        rows.append(
            (f"{_state(state)}: B's loss", f"{loss.effect:.1%} [{loss.low:.1%}, {loss.high:.1%}]", "", "", "")
        )
    for arm in arms:
        left = paired_impact(seen[arm.name, False].per_second, seen[arm.name, True].per_second)
        section.figures[f"{arm.name}: change by the hogs"] = left.to_json()
        rows.append(
            (f"{arm.repository}: change by the hogs",
             f"{left.effect:+.1%} [{left.low:+.1%}, {left.high:+.1%}]", "", "", "")
        )  # fmt: skip
    section.tables.append(
        Table(
            f"{NAME}: {hogs} hogs on {section.figures['cores']} cores",
            ("", "tx/s at saturation", f"response p50 at {rate:.0f}/s", "p99", "skipped"),
            rows,
            "One connection. Response from the intended start, over all slots together; the load itself, its "
            "server and the hogs share the processors.",
        )
    )


def _row(section: Section, arm: Arm, state: bool, seen: _Seen, hogs: int, parameters: int) -> tuple[str, ...]:
    mean, low, high = mean_interval(seen.per_second)
    at = {
        "repository": arm.repository, "parameters": parameters,
        "hogs": hogs if state else 0,
    }  # fmt: skip
    cell = f"{NAME}: {_state(state)}"
    section.findings.append(Finding("throughput", mean, low, high, "tx/s", cell, at))
    response = Merged([loop.response for loop in seen.paced])
    skipped = sum(loop.skipped for loop in seen.paced)
    return (
        f"{_state(state)}: {arm.repository}",
        f"{mean:,.1f} [{low:,.1f}, {high:,.1f}]",
        _ms(response.percentile_us(50)),
        _ms(response.percentile_us(99)),
        f"{skipped:,}",
    )


def _state(are_loose: bool) -> str:
    return "with the hogs" if are_loose else "quiet"


def _ms(microseconds: float) -> str:
    return "too few" if math.isnan(microseconds) else f"{microseconds / 1000:.2f} ms"
