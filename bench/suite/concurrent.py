"""Part concurrent: 100 transactions at the same moment, by processes and by threads that share a pool."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from bench.analysis.finding import Finding
from bench.analysis.statistics import wilson
from bench.analysis.verdict import judge_success
from bench.load.failures import Failure
from bench.measuring.resources import server_counters
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import check
from bench.suite.context import Suite
from bench.suite.crowd import DISJOINT, SAME, CrowdSettings, CrowdTotal, crowd_configs
from bench.suite.crowds import Crowd, crowd_workers
from bench.suite.plan import SuitePlan
from bench.suite.words import failures, milliseconds, percent

NAME = "concurrent"
TITLE = "many transactions at the same moment, on rows of their own and on the same rows"

_COLUMNS = (
    *("repository", "writers are", "rows", "tried", "stored", "transactions/s", "p50 ms", "p95 ms", "p99 ms"),
    *("max ms", "pool busy", "deadlocks", "failures"),
)
_NOTE = (
    "All begin at one instant and nothing is tried twice. Times are from that instant to committed, so they "
    "are mostly waiting: for a core, for the disk, and on the same rows for each other. Deadlocks are the "
    "server's count. A dash: too few values to say."
)


def planned_seconds(plan: SuitePlan) -> float:
    """About: most of it is preparing and verifying so many streams."""
    simultaneous = plan.concurrent.simultaneous
    return 2 * (2 + simultaneous * (0.055 + 0.006 * plan.concurrent.rounds))


def run(bench: Suite, section: Section) -> None:
    """Both arms, two ways, two kinds of rows; then the oracle. Raises DatabaseError."""
    plan = bench.plan.concurrent
    writers = plan.simultaneous
    title = f"{writers} transactions at the same moment, {plan.rounds} times"
    table = Table(title, _COLUMNS, note=_NOTE)
    section.tables.append(table)
    configs = crowd_configs(bench.plan.parameters, writers)
    counts: list[tuple[str, int, int]] = []
    with crowd_workers(plan.processes) as workers:
        for letter, arm in bench.letters:
            with bench.schema(configs, arm, NAME) as schema:
                settings = CrowdSettings(bench.conninfo, schema, arm, bench.plan.parameters, writers)
                counts.append((arm, *_run_arm(bench, section, table, workers, settings)))
                check(bench, section, letter, arm, schema, section.figures[arm]["history_rows"])
            bench.say("transactions at the same moment", planned_seconds(bench.plan) / 2)
    _judge(bench, section, counts)


def _run_arm(
    bench: Suite, section: Section, table: Table, workers: list[ProcessPoolExecutor], settings: CrowdSettings
) -> tuple[int, int]:
    """All cases of an arm; returns how many transactions were stored and tried."""
    rounds, writers = bench.plan.concurrent.rounds, settings.writers
    ways = {
        f"{len(workers)} processes": (workers, settings),
        "threads of one, one pool": (workers[:1], replace(settings, pool=writers)),
    }
    stored = tried = rows_stored = 0
    figures: dict[str, object] = {}
    for way, (processes, mine) in ways.items():
        crowd = Crowd(processes, mine)
        crowd.prepare(SAME, DISJOINT)
        for rows in (DISJOINT, SAME):
            before = server_counters(bench.monitor, settings.schema).deadlocks
            total = crowd.go(rows, rounds=rounds)
            deadlocks = server_counters(bench.monitor, settings.schema).deadlocks - before
            figures[f"{way}, {rows} rows"] = total.to_json() | {"deadlocks": deadlocks}
            table.rows.append(_row(settings.arm, way, rows, total, deadlocks))
            stored, tried = stored + total.stored, tried + total.tried
        crowd.close()
        rows_stored += crowd.rows
    section.figures[settings.arm] = {**figures, "history_rows": rows_stored}
    return stored, tried


def _row(arm: str, way: str, rows: str, total: CrowdTotal, deadlocks: int) -> tuple[str, ...]:
    response = total.merged("response")
    return (
        arm,
        way,
        rows,
        f"{total.tried:,}",
        percent(total.stored / total.tried, 2),
        f"{total.per_second:,.0f}",
        *(milliseconds(response.percentile_us(p)) for p in (50, 95, 99)),
        milliseconds(response.max_us),
        percent(total.pool_busy),
        f"{max(deadlocks, total.failures.get(Failure.DEADLOCK.value, 0)):,}",
        failures(total.failures),
    )


def _judge(bench: Suite, section: Section, counts: list[tuple[str, int, int]]) -> None:
    writers = bench.plan.concurrent.simultaneous
    judged = judge_success([(stored, tried) for _, stored, tried in counts], bench.targets.success)
    metric = f"success at {writers} simultaneous transactions"
    section.judgements.append(replace(judged, metric=metric))
    for arm, stored, tried in counts:
        low, high = wilson(stored, tried)
        at = {"repository": arm, "writers": writers, "simultaneous": writers}
        cell = f"{NAME}: {writers} at once, all ways"
        share = stored / tried if tried else float("nan")
        outcome = judge_success([(stored, tried)], bench.targets.success).outcome
        section.findings.append(Finding("success", share, low, high, "share", cell, at, outcome))
