"""Part pool_use: how long threads wait for a connection, by the size of the pool that they share."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor

from bench.analysis.finding import Finding
from bench.analysis.percentile_interval import percentile_interval
from bench.analysis.statistics import FEWEST_SLOTS, mean_interval
from bench.measuring.latency import Merged
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import check
from bench.suite.context import Suite
from bench.suite.crowd import DISJOINT, CrowdSettings, CrowdTotal, crowd_configs
from bench.suite.crowds import Crowd, crowd_workers
from bench.suite.plan import SuitePlan
from bench.suite.words import failures, milliseconds, percent

NAME = "pool_use"
TITLE = "how long threads wait for a connection, by the size of their pool"

_SLOTS = FEWEST_SLOTS
_PERCENTILES = (95, 99)
_COLUMNS = (
    *("repository", "pool", "demand", "transactions/s", "wait p50 ms", "wait p95 ms", "wait p99 ms"),
    *("duration p50 ms", "duration p99 ms", "pool busy", "failures"),
)
_NOTE = (
    "All threads of one process want a connection all the time: the demand at its worst. Wait: until the "
    "pool gave one; duration: from then to committed, with the wait for a core. Rows are disjoint."
)


def planned_seconds(plan: SuitePlan) -> float:
    sizes = len(plan.pool_use.sizes)
    return 2 * (1.2 + sizes * (plan.pool_use.seconds + 0.6)) + 1


def run(bench: Suite, section: Section) -> None:
    """Each size for both arms; raises DatabaseError."""
    plan = bench.plan.pool_use
    title = f"{plan.threads} threads that share a repository and a pool, {plan.seconds:g} s each size"
    section.tables.append(Table(title, _COLUMNS, note=_NOTE))
    configs = crowd_configs(bench.plan.parameters, plan.threads)
    with crowd_workers(1) as workers:
        for letter, arm in bench.letters:
            with bench.schema(configs, arm, NAME) as schema:
                rows = sum(_run_size(bench, section, workers, schema, arm, size) for size in plan.sizes)
                check(bench, section, letter, arm, schema, rows)


def _run_size(
    bench: Suite, section: Section, workers: list[ProcessPoolExecutor], schema: str, arm: str, size: int
) -> int:
    """One size of one arm; returns the history rows that it stored."""
    plan = bench.plan.pool_use
    settings = CrowdSettings(bench.conninfo, schema, arm, bench.plan.parameters, plan.threads, pool=size)
    crowd = Crowd(workers, settings)
    crowd.prepare(DISJOINT)
    slots = [crowd.go(DISJOINT, plan.seconds / _SLOTS) for _ in range(_SLOTS)]
    crowd.close()
    total = CrowdTotal(size)
    for slot in slots:
        total.add(slot)
    key = f"{arm}, pool of {size}"
    section.figures[key] = total.to_json() | {"slots_per_s": [round(slot.per_second, 1) for slot in slots]}
    section.tables[0].rows.append(_row(arm, size, plan.threads, total))
    section.findings += _findings(arm, size, plan.threads, slots, bench.seed)
    bench.say(f"pool of {size}", planned_seconds(bench.plan) / (2 * len(plan.sizes)))
    return crowd.rows


def _row(arm: str, size: int, threads: int, total: CrowdTotal) -> tuple[str, ...]:
    wait, service = total.merged("pool_wait"), total.merged("service")

    def of(merged: Merged, *wanted: int) -> list[str]:
        return [milliseconds(merged.percentile_us(each)) for each in wanted]

    return (
        arm,
        str(size),
        str(threads),
        f"{total.per_second:,.0f}",
        *of(wait, 50, 95, 99),
        *of(service, 50, 99),
        percent(total.pool_busy),
        failures(total.failures),
    )


def _findings(arm: str, size: int, threads: int, slots: list[CrowdTotal], seed: int) -> list[Finding]:
    cell = f"{NAME}: pool of {size}"
    at = {"repository": arm, "pool_size": size, "demand": threads}
    waits = [result.pool_wait for slot in slots for result in slot.results]
    found = []
    for wanted in _PERCENTILES:
        value, low, high = (us / 1000 for us in percentile_interval(waits, wanted, seed))
        if math.isnan(value):  # too few waits lie beyond it
            continue
        found.append(Finding("pool_wait_ms", value, low, high, "ms", cell, at | {"percentile": wanted}))
    mean, low, high = mean_interval([slot.per_second for slot in slots])
    rate = at | {"connections": size, "rows": DISJOINT, "pool": True}
    found.append(Finding("throughput", mean, low, high, "transactions/s", cell, rate))
    return found
