"""What pool exhaustion found, as findings and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.analysis.finding import Finding
from bench.analysis.percentile_interval import percentile_interval
from bench.analysis.verdict import Judgement, judge_most
from bench.measuring.latency import Latencies
from bench.report.table import Table
from bench.stress.outage import LATE_MS, Outage
from bench.stress.window import Window, percentile_ms


@dataclass(frozen=True)
class Sized:
    """A pool of one size."""

    arm: str
    size: int
    window: Window
    pool_waits: list[Latencies]
    """Of equal parts of the window, for the interval."""


def pool_finding(sized: Sized, demand: int, seed: int) -> Finding:
    """The 95th percentile of the wait for a connection."""
    value, low, high = (us / 1000 for us in percentile_interval(sized.pool_waits, 95, seed))
    cell = f"pool_exhaustion size {sized.size} {sized.arm}"
    at = {"percentile": 95, "pool_size": sized.size, "demand": demand, "repository": sized.arm}
    return Finding("pool_wait_ms", value, low, high, "ms", cell, at)


def recovery_finding(fault: str, arm: str, outage: Outage) -> Finding:
    """Seconds until the fault was not felt any more."""
    value = math.nan if outage.recovered_s is None else outage.recovered_s
    at = {"fault": fault, "repository": arm}
    return Finding("recovery_s", value, math.nan, math.nan, "s", f"pool_exhaustion {fault} {arm}", at)


def recovery_judged(fault: str, arm: str, outage: Outage, target_s: float) -> Judgement:
    """Whether it recovered soon enough; open if nobody saw the end of it."""
    value = math.nan if outage.recovered_s is None else outage.recovered_s
    return judge_most(f"recovery ({fault}, {arm})", value, value, value, target_s, "s")


def sizes_table(sizes: list[Sized], demand: int) -> Table:
    """A row for each size of the pool."""
    rows = [
        (
            f"{one.size} of {demand}",
            one.arm,
            f"{one.window.per_s:,.0f}",
            _ms(percentile_ms(one.window.pool_wait, 50)),
            _ms(percentile_ms(one.window.pool_wait, 95)),
            _ms(percentile_ms(one.window.service, 50)),
            _ms(percentile_ms(one.window.service, 95)),
            _failures(one.window.failures),
        )
        for one in sizes
    ]
    return Table(
        f"{demand} threads that want a connection of one pool",
        ("pool", "arm", "tx/s", "wait p50", "wait p95", "database p50", "database p95", "failed"),
        list(rows),
        "Wait: for a connection of the pool; database: from the connection in hand to the proven commit. "
        "As fast as it goes, so waits follow from the demand; a plant that polls waits less.",
    )


def outages_table(outages: list[tuple[str, str, Outage]]) -> Table:
    """A row for each fault."""
    rows = [
        (
            fault,
            arm,
            f"{outage.seconds:.1f} s",
            *(f"{stored} of {due}" for stored, due in zip(outage.stored, outage.due, strict=True)),
            _failures(outage.failures),
            _s(outage.first_success_s),
            _s(outage.recovered_s),
        )
        for fault, arm, outage in outages
    ]
    return Table(
        "Without a connection while the schedule goes on",
        ("fault", "arm", "lasted", "before", "during", "after", "failed", "first success", "recovered"),
        list(rows),
        "Stored of what was due before, during and after the fault; these writers do not try again, a logger "
        f"does. Recovered: when nothing failed or took over {LATE_MS:g} ms any more.",
    )


def _failures(failures: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in failures.items()) or "—"


def _ms(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.1f} ms"


def _s(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.2f} s"
