"""Advice on what can be chosen: batch size, update strategy, pool size, number of connections; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from bench.analysis.finding import Finding
from bench.analysis.recommendation import (
    MARGIN,
    Recommendation,
    alike,
    conditions,
    of_metric,
    smallest_sufficient,
    varied,
)

DEFAULT_STRATEGIES = ("synchronizing", "array_join")
"""What the synchronizing repository does, as it stands and as one strategy among others."""
DOES_LESS = "skip_unchanged"
"""A strategy that is measured to see what it would save, and never recommended: with it nobody can tell from
a current value when it was last read."""
POOL_WAIT_MS = 5.0
"""A wait for a connection beyond this is noticed beside a transaction of a few milliseconds."""
_TAIL = 95.0
_FEWEST_LEVELS = 3
_MARGIN_OF_CHOICE = "the smallest of which the interval, as a share of the best, lies above 90 %"
_TOO_WIDE = "the intervals are too wide to choose by: measure longer, or on a quieter machine"
_BEYOND = 1.5
"""A peak of the scalability law that lies farther out than so many times what was measured is a guess."""


def batch_size(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The two axes of a batch, each named: scans of a transaction, parameters of a scan.

    Only from saturation: what a schedule offers a second says nothing of what could be stored.
    """
    found = [f for f in of_metric(findings, "parameters_per_s", "parameters") if "interval_s" not in f.at]
    groups = [
        (key, name, group)
        for key, name in (("scans", "scans a transaction"), ("parameters", "parameters a scan"))
        for group in varied([finding for finding in found if key in finding.at], key)
    ]
    if not groups:
        return "no two batch sizes were measured at saturation with an interval"
    given = [_enough(*group) for group in groups]
    return [each for each in given if each is not None] or _TOO_WIDE


def _enough(key: str, name: str, group: Sequence[Finding]) -> Recommendation | None:
    sufficient = smallest_sufficient(group, key)
    if sufficient is None:
        return None
    enough, best = sufficient
    largest = max(float(finding.at[key]) for finding in group)
    at_edge = float(best.at[key]) == largest
    where = conditions(enough, key)
    more = "" if enough is best else f"; {best.at[key]} give {best.value / enough.value - 1:+.0%}"
    limits = f"nothing above {largest:g} was measured" + (", where it still rose" if at_edge else "")
    return Recommendation(
        "batch size",
        f"{enough.at[key]} {name} are enough ({where}): {enough.value:,.0f} values/s{more}",
        _MARGIN_OF_CHOICE,
        (enough,) if enough is best else (enough, best),
        f"{limits}; a logger gathers scans only while they wait",
    )


def update_strategy(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The fastest way to update current values, at each number of parameters."""
    found = [
        finding
        for finding in of_metric(findings, "strategy_us", "strategy", "parameters")
        if finding.at["strategy"] != DOES_LESS
    ]
    groups = sorted(varied(found, "strategy"), key=lambda group: float(group[0].at["parameters"]))
    if not groups:
        return "no two strategies were measured with an interval at one number of parameters"
    winners: dict[str, list[Finding]] = {}
    evidence: dict[str, list[Finding]] = {}
    for group in groups:
        if not all(finding.low > 0 for finding in group):
            continue  # times that cannot be told from nothing cannot be told from each other
        clear = _clear_winner(group)
        if clear is None:
            continue
        winner, second = clear
        winners.setdefault(winner.at["strategy"], []).append(winner)
        evidence.setdefault(winner.at["strategy"], []).extend((winner, second))
    given = []
    for strategy, won in winners.items():
        shown = ", ".join(str(finding.at["parameters"]) for finding in won)
        given.append(
            Recommendation(
                "update strategy",
                f"{strategy} at {shown} parameters: {won[-1].value:,.0f} µs at {won[-1].at['parameters']}",
                "another than what synchronizing does only where the intervals lie apart",
                tuple(evidence[strategy]),
                "measured with every value changed, one writer",
            )
        )
    return given or _TOO_WIDE


def _clear_winner(group: Sequence[Finding]) -> tuple[Finding, Finding] | None:
    """The fastest and whom it beat; the default one where the fastest is not clearly faster than it.

    None where the default one was not measured and the two fastest cannot be told apart.
    """
    fastest, second = sorted(group, key=lambda finding: finding.value)[:2]
    names = {finding.at["strategy"]: finding for finding in group}
    default = next((names[name] for name in DEFAULT_STRATEGIES if name in names), None)
    if default is None:
        return (fastest, second) if fastest.high < second.low else None
    if default is fastest:
        return fastest, second
    return (fastest, default) if fastest.high < default.low else (default, fastest)


def pool_size(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The smallest pool that lets nobody wait at the largest demand that was measured."""
    found = of_metric(findings, "pool_wait_ms", "pool_size", "demand", "percentile")
    farthest = max((float(finding.at["percentile"]) for finding in found), default=0.0)
    tails = [finding for finding in found if float(finding.at["percentile"]) == farthest >= _TAIL]
    if not tails:
        return "no tail (p95 or beyond) of the wait for a pool's connection was measured with an interval"
    demand = max(float(finding.at["demand"]) for finding in tails)
    groups = alike([finding for finding in tails if float(finding.at["demand"]) == demand], "pool_size")
    given = [each for each in map(_smallest_pool, groups) if each is not None]
    largest = max(float(finding.at["pool_size"]) for finding in tails)
    return given or (
        f"at a demand of {demand:g} the largest pool, of {largest:g}, makes some wait {POOL_WAIT_MS:g} ms "
        "or more"
    )


def _smallest_pool(group: Sequence[Finding]) -> Recommendation | None:
    ordered = sorted(group, key=lambda finding: float(finding.at["pool_size"]))
    without_wait = list(takewhile(lambda finding: finding.high < POOL_WAIT_MS, reversed(ordered)))
    if not without_wait:
        return None
    enough = without_wait[-1]  # and every larger one that was measured
    smallest, demand = float(enough.at["pool_size"]), float(enough.at["demand"])
    smaller = [finding for finding in ordered if float(finding.at["pool_size"]) < smallest]
    where = conditions(enough, "pool_size", "demand", "percentile")
    return Recommendation(
        "pool size",
        f"{math.ceil(smallest / MARGIN)} connections for {demand:g} transactions at once"
        f"{f' ({where})' if where else ''}: with {smallest:g} the wait's "
        f"p{float(enough.at['percentile']):g} is {enough.value:.2g} ms",
        f"the smallest without a wait of {POOL_WAIT_MS:g} ms, divided by {MARGIN:g}",
        (enough, *smaller[-1:]),
        "a demand above that was not measured; one writer a device needs no pool",
    )


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
    groups = [
        group
        for group in varied(found, "connections")
        if len({finding.at["connections"] for finding in group}) >= _FEWEST_LEVELS
    ]
    if not groups:
        return "no three numbers of connections were measured with an interval"
    given = []
    for group in groups:
        sufficient = smallest_sufficient(group, "connections")
        if sufficient is None:
            continue
        enough, best = sufficient
        law = laws.get((enough.at["repository"], enough.at.get("rows")))
        given.append(
            Recommendation(
                "scaling",
                f"{enough.at['connections']} connections ({conditions(enough, 'connections')}) reach "
                f"{enough.value:,.0f} transactions/s of at most {best.value:,.0f}",
                _MARGIN_OF_CHOICE,
                _unique(enough, best, law),
                _law_in_words(law, group),
            )
        )
    return given or _TOO_WIDE


def _law_in_words(law: Finding | None, group: Sequence[Finding]) -> str:
    tested = max(float(finding.at["connections"]) for finding in group)
    if law is None:
        return f"nothing above {tested:g} connections was measured"
    tested = float(law.at.get("tested", tested))
    if law.at.get("why_not"):
        return f"the scalability law tells no peak: {law.at['why_not']}"
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
