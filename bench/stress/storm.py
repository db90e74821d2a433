"""Scenario: 10 to 200 transactions that begin at one instant, on rows of their own and on the same rows.

All writers are connected and wait for a common instant; then each stores one scan, and the next wave
begins once the last has ended. On the same rows they are streams of one machine, so that the arm that
keeps current values has to take turns.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection

from bench.analysis.finding import Finding
from bench.analysis.statistics import wilson
from bench.analysis.verdict import Judgement, Outcome, judge_success
from bench.load.failures import Failure
from bench.measuring.latency import Merged
from bench.measuring.resources import server_counters
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress
from bench.stress.crowd import Crowd, crowd
from bench.stress.crowd_worker import CrowdSettings, crowd_machine
from bench.stress.holdings import Holdings
from bench.stress.plan import Rows, StressPlan
from bench.stress.server import NotMeasured, Server
from bench.stress.window import Window, window_of

NAME = "storm"
TITLE = "Many transactions that begin at one instant, on disjoint and on the same rows"

JUDGED_UP_TO = 100
"""The target of success counts for so many simultaneous transactions; more are shown."""
_WAVE_S = 20.0
"""A wave may take so long; the session's timeouts end what takes longer."""
_WARM_UP_WAVES = 2
_FEWEST_TRIED = 100
"""Of a size of storm: with fewer, not even a storm without a failure shows that 95 % succeed."""
_USUAL_WAVE_S = 0.35
_SETTING_UP_S = 6.0


def planned_seconds(plan: StressPlan) -> float:
    waves = (plan.storm.waves + _WARM_UP_WAVES) * len(plan.storm.transactions)
    return 2 * len(plan.storm.rows) * (_SETTING_UP_S + waves * _USUAL_WAVE_S)


def run(bench: Stress, section: Section) -> None:
    """Run all waves of every arm. Raises PlcsimError."""
    storms: list[Storm] = []
    with bench.server() as server, server.connect() as monitor:
        for rows in bench.plan.storm.rows:
            for arm in bench.distinct_arms:
                _storms_of(bench, section, server, monitor, arm, rows, storms)


@dataclass(frozen=True)
class Storm:
    """All waves of so many transactions."""

    arm: str
    rows: Rows
    transactions: int
    waves: list[Window]

    @property
    def stored(self) -> int:
        return sum(wave.stored for wave in self.waves)

    @property
    def tried(self) -> int:
        return sum(wave.tried for wave in self.waves)

    @property
    def failures(self) -> dict[str, int]:
        """By `Failure`."""
        found: dict[str, int] = {}
        for wave in self.waves:
            for name, count in wave.failures.items():
                found[name] = found.get(name, 0) + count
        return found

    @property
    def at_once(self) -> int:
        """The most of a wave that were under way together, in the wave where that was least."""
        return min((wave.simultaneous for wave in self.waves), default=0)

    def response_ms(self, percent: float) -> float:
        """From the common instant to stored; NaN where too little was stored to say."""
        return Merged([wave.response for wave in self.waves]).percentile_us(percent) / 1000

    def judged(self, target: float) -> Judgement:
        """Whether enough was stored."""
        judgement = judge_success([(self.stored, self.tried)], target)
        where = f"success ({self.transactions} at once, {self.rows} rows, {self.arm})"
        return replace(judgement, metric=where)


def _storms_of(
    bench: Stress,
    section: Section,
    server: Server,
    monitor: Connection[Any],
    arm: str,
    rows: Rows,
    storms: list[Storm],
) -> None:
    plan, shared = bench.plan, rows == "same"
    sizes = _sizes(plan.storm.transactions, server, section)
    most = max(sizes)
    configs = [crowd_machine(i, plan.parameters, shared) for i in range(1 if shared else most)]
    begun = time.monotonic()
    with server.schema("storm", configs, arm) as schema:
        holdings = Holdings(section, server, schema, arm)
        deadlocks = server_counters(monitor, schema).deadlocks
        settings = CrowdSettings(server.conninfo, schema, arm, plan.parameters, shared)
        with crowd(settings, plan.workers) as writers:
            writers.resize(most)
            writers.run(_WAVE_S, count=1)
            server.analyze(schema)
            bench.say(f"storm of {arm}, {rows} rows", time.monotonic() - begun)
            for transactions in sizes:
                begun = time.monotonic()
                storms.append(Storm(arm, rows, transactions, _waves(writers, transactions, plan.storm.waves)))
                _note(bench, section, storms)
                bench.say(f"{transactions} at once, {rows} rows, {arm}", time.monotonic() - begun)
        holdings.check(f"{rows} rows", [writers])
        mine = [storm for storm in storms if (storm.arm, storm.rows) == (arm, rows)]
        _note_deadlocks(section, server_counters(monitor, schema).deadlocks - deadlocks, mine)


def _sizes(wanted: list[int], server: Server, section: Section) -> list[int]:
    """Those for which a given server has connections, and some left for others."""
    spare = server.spare_connections()
    sizes = sorted(n for n in wanted if spare is None or n <= spare)
    for missing in sorted(set(wanted) - set(sizes)):
        why = f"{missing} at once: the given server can spare {spare} connections"
        if why not in section.figures.setdefault("not_measured", []):
            section.figures["not_measured"].append(why)
    if not sizes:
        raise NotMeasured(f"the given server can spare only {spare} connections")
    return sizes


def _waves(writers: Crowd, transactions: int, waves: int) -> list[Window]:
    writers.resize(transactions)
    for _ in range(_WARM_UP_WAVES):
        writers.run(_WAVE_S, count=1)
    waves = max(waves, math.ceil(_FEWEST_TRIED / transactions))
    runs = [writers.run(_WAVE_S, count=1) for _ in range(waves)]
    return [window_of(run.attempts, run.schedule) for run in runs]


def _note_deadlocks(section: Section, counted: int, storms: list[Storm]) -> None:
    """What the server counted beside what the writers were told."""
    told = sum(storm.failures.get(Failure.DEADLOCK, 0) for storm in storms)
    section.figures.setdefault("deadlocks", []).append(
        {"repository": storms[0].arm, "rows": storms[0].rows, "server": counted, "clients": told}
    )


def _note(bench: Stress, section: Section, storms: list[Storm]) -> None:
    """Enter what is known so far."""
    section.figures["storms"] = [
        {
            "repository": storm.arm,
            "rows": storm.rows,
            "transactions": storm.transactions,
            "stored": storm.stored,
            "tried": storm.tried,
            "failures": storm.failures,
            "at_once": storm.at_once,
            "waves": [wave.to_json() for wave in storm.waves],
        }
        for storm in storms
    ]
    target = bench.targets.success
    section.judgements = [s.judged(target) for s in storms if s.transactions <= JUDGED_UP_TO]
    section.findings = [_success(storm, target) for storm in storms] + _limits(storms, target)
    section.tables = [_table(storms)]


def _success(storm: Storm, target: float) -> Finding:
    low, high = wilson(storm.stored, storm.tried)
    return Finding(
        "success",
        storm.stored / storm.tried if storm.tried else math.nan,
        low,
        high,
        "",
        f"{NAME} {storm.transactions} {storm.rows} rows {storm.arm}",
        {"repository": storm.arm, "connections": storm.transactions, "rows": storm.rows},
        storm.judged(target).outcome if storm.transactions <= JUDGED_UP_TO else None,
    )


def _limits(storms: list[Storm], target: float) -> list[Finding]:
    """Of each arm and kind of rows the largest storm of which the target was met for certain."""
    found = []
    for arm, rows in dict.fromkeys((storm.arm, storm.rows) for storm in storms):
        mine = [storm for storm in storms if (storm.arm, storm.rows) == (arm, rows)]
        met = {storm.transactions: storm.judged(target).outcome is Outcome.PASS for storm in mine}
        missed = min((n for n, is_met in met.items() if not is_met), default=math.nan)
        held = max((n for n, is_met in met.items() if is_met and not n > missed), default=0)
        if held:
            rule = f"success at least {target:.0%}" if missed < math.inf else "limit not reached"
            at = {"resource": "transactions at once", "rows": rows, "repository": arm, "rule": rule,
                  "cause": "", "confirmed": len(mine[0].waves)}  # fmt: skip
            cell = f"{NAME} {rows} rows {arm}"
            found.append(Finding("limit", held, held, missed, "transactions", cell, at))
    return found


def _table(storms: list[Storm]) -> Table:
    rows = [
        (
            f"{storm.transactions}, {storm.rows} rows",
            storm.arm,
            f"{storm.stored / storm.tried:.1%} of {storm.tried:,}" if storm.tried else "—",
            ", ".join(f"{count} {name}" for name, count in storm.failures.items()) or "—",
            str(storm.at_once),
            _ms(storm.response_ms(50)),
            _ms(storm.response_ms(95)),
            _ms(max(wave.response.max_us for wave in storm.waves) / 1000),
            f"{1000 * sorted(wave.seconds for wave in storm.waves)[len(storm.waves) // 2]:.0f} ms",
        )
        for storm in storms
    ]
    return Table(
        "Transactions that begin at one instant",
        ("storm", "arm", "stored", "failed", "under way", "p50", "p95", "longest", "wave"),
        list(rows),
        "From the common instant to stored; under way: the most that were inside the database together, in "
        "the wave where that was least; wave: until the last of a wave was stored (median).",
    )


def _ms(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.0f} ms"
