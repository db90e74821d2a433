"""Advice on what can be chosen: batch size, update strategy, pool size, number of connections; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis.finding import Finding
from bench.analysis.recommendation import (
    MARGIN,
    Recommendation,
    conditions,
    of_metric,
    smallest_sufficient,
    varied,
)

DEFAULT_STRATEGY = "array_join"
"""What the synchronizing repository does."""
POOL_WAIT_MS = 5.0
"""A wait for a connection beyond this is noticed beside a transaction of a few milliseconds."""
_BEYOND = 1.5
"""A peak of the scalability law that lies farther out than so many times what was measured is a guess."""


def batch_size(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The two axes of a batch, each named: scans of a transaction, parameters of a scan.

    Only from saturation: what a schedule offers a second says nothing of what could be stored.
    """
    found = [f for f in of_metric(findings, "parameters_per_s", "parameters") if "interval_s" not in f.at]
    given = [
        _enough(group, key, name)
        for key, name in (("scans", "scans a transaction"), ("parameters", "parameters a scan"))
        for group in varied([finding for finding in found if key in finding.at], key)
    ]
    return given or "no two batch sizes were measured at saturation with an interval"


def _enough(group: Sequence[Finding], key: str, name: str) -> Recommendation:
    enough, best = smallest_sufficient(group, key)
    largest = max(float(finding.at[key]) for finding in group)
    at_edge = float(best.at[key]) == largest
    where = conditions(enough, key)
    more = "" if enough is best else f"; {best.at[key]} give {best.value / enough.value - 1:+.0%}"
    limits = f"nothing above {largest:g} was measured" + (", where it still rose" if at_edge else "")
    return Recommendation(
        "batch size",
        f"{enough.at[key]} {name} are enough ({where}): {enough.value:,.0f} values/s{more}",
        "the smallest size whose lower end reaches 90 % of the best one's",
        (enough,) if enough is best else (enough, best),
        f"{limits}; a logger gathers scans only while they wait",
    )


def update_strategy(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The fastest way to update current values, at each number of parameters."""
    found = of_metric(findings, "strategy_us", "strategy", "parameters")
    winners: dict[str, list[Finding]] = {}
    evidence: dict[str, list[Finding]] = {}
    for group in sorted(varied(found, "strategy"), key=lambda group: float(group[0].at["parameters"])):
        winner, second = _clear_winner(group)
        winners.setdefault(winner.at["strategy"], []).append(winner)
        evidence.setdefault(winner.at["strategy"], []).extend((winner, second))
    given = []
    for strategy, won in winners.items():
        shown = ", ".join(str(finding.at["parameters"]) for finding in won)
        given.append(
            Recommendation(
                "update strategy",
                f"{strategy} at {shown} parameters: {won[-1].value:,.0f} µs at {won[-1].at['parameters']}",
                f"another than {DEFAULT_STRATEGY} only where the intervals lie apart",
                tuple(evidence[strategy]),
                "measured with every value changed, one writer",
            )
        )
    return given or "no two strategies were measured with an interval at one number of parameters"


def _clear_winner(group: Sequence[Finding]) -> tuple[Finding, Finding]:
    """The fastest and whom it beat; the default one where the fastest is not clearly faster than it."""
    fastest, second = sorted(group, key=lambda finding: finding.value)[:2]
    default = next((f for f in group if f.at["strategy"] == DEFAULT_STRATEGY), None)
    if default is None or default is fastest:
        return fastest, second
    return (fastest, default) if fastest.high < default.low else (default, fastest)


def pool_size(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The smallest pool that lets nobody wait at the largest demand that was measured."""
    found = [
        finding
        for finding in of_metric(findings, "pool_wait_ms", "pool_size", "demand")
        if float(finding.at.get("percentile", 99)) >= 95
    ]
    if not found:
        return "no wait for a pool's connection was measured with an interval"
    demand = max(float(finding.at["demand"]) for finding in found)
    group = sorted(
        (f for f in found if float(f.at["demand"]) == demand), key=lambda f: float(f.at["pool_size"])
    )
    enough = next((finding for finding in group if finding.high < POOL_WAIT_MS), None)
    if enough is None:
        return (
            f"at a demand of {demand:g} every pool up to {group[-1].at['pool_size']} makes some wait "
            f"{POOL_WAIT_MS:g} ms or more"
        )
    size = math.ceil(float(enough.at["pool_size"]) / MARGIN)
    smaller = [finding for finding in group if float(finding.at["pool_size"]) < float(enough.at["pool_size"])]
    return [
        Recommendation(
            "pool size",
            f"{size} connections for {demand:g} transactions at once: with {enough.at['pool_size']} "
            f"p{float(enough.at.get('percentile', 99)):g} of the wait is {enough.value:.2g} ms",
            f"the smallest without a wait of {POOL_WAIT_MS:g} ms, divided by {MARGIN:g}",
            (enough, *smaller[-1:]),
            "a demand above that was not measured; one writer a device needs no pool",
        )
    ]


def scaling(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """How many connections to use, from what was measured; from the law only as far as it carries."""
    found = [
        finding
        for finding in of_metric(findings, "throughput", "connections", "repository")
        if float(finding.at["connections"]) > 0
    ]
    laws = {
        (finding.at.get("repository"), finding.at.get("rows")): finding
        for finding in findings
        if finding.metric == "usl_peak"
    }
    given = []
    for group in varied(found, "connections"):
        if len({finding.at["connections"] for finding in group}) < 3:
            continue
        enough, best = smallest_sufficient(group, "connections")
        law = laws.get((enough.at["repository"], enough.at.get("rows")))
        given.append(
            Recommendation(
                "scaling",
                f"{enough.at['connections']} connections ({conditions(enough, 'connections')}) reach "
                f"{enough.value:,.0f} transactions/s of at most {best.value:,.0f}",
                "the fewest whose lower end reaches 90 % of the best one's",
                _unique(enough, best, law),
                _law_in_words(law, group),
            )
        )
    return given or "no three numbers of connections were measured with an interval"


def _law_in_words(law: Finding | None, group: Sequence[Finding]) -> str:
    tested = max(float(finding.at["connections"]) for finding in group)
    if law is None:
        return f"nothing above {tested:g} connections was measured"
    tested = float(law.at.get("tested", tested))
    if law.at.get("why_not"):
        return f"the scalability law cannot be told: {law.at['why_not']}"
    if math.isnan(law.value) or law.low > _BEYOND * tested:
        return f"no peak seen up to {tested:g} connections; beyond that nothing is known"
    said = f"by the scalability law throughput peaks at {law.value:.0f} [{law.low:.0f}, {law.high:.0f}]"
    if law.high > _BEYOND * tested:
        said += f", which is not certain: only {tested:g} were measured"
    return f"{said}; more connections than that make it slower"


def _unique(*findings: Finding | None) -> tuple[Finding, ...]:
    seen: list[Finding] = []
    for finding in findings:
        if finding is not None and not any(finding is other for other in seen):
            seen.append(finding)
    return tuple(seen)
