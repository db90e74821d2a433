"""Advice on what must be kept: polling rate, memory of a logger, alert thresholds; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from bench.analysis.finding import Finding
from bench.analysis.leak import hours_until
from bench.analysis.recommendation import MARGIN, Recommendation, alike, conditions, of_metric

_MEMORY_FACTOR = 1.5
_TIMES_NORMAL = 3.0
"""A response time of so many times what was measured is no longer that."""
_TAIL = 95.0
_LONG_H = 24 * 365
_FEWEST_SEEN = 2
"""A level that held once has not been confirmed."""
_READER_LEFT = 0.8
"""A snapshot that leaves less than so much of the throughput is worth being woken for."""


def polling_rate(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """The shortest interval at which a scan is stored well before the next one is due, by devices."""
    found = of_metric(findings, "response_ms", "interval_s", "repository", "percentile")
    farthest = max((float(finding.at["percentile"]) for finding in found), default=0.0)
    tails = [finding for finding in found if float(finding.at["percentile"]) == farthest >= _TAIL]
    given = [each for each in map(_shortest, alike(tails, "interval_s")) if each is not None]
    given += [_rate(finding) for finding in _limits(findings, "rate")]
    return (
        given or "no response time was measured with an interval at a polling interval, and no limit of rate"
    )


def _shortest(group: Sequence[Finding]) -> Recommendation | None:
    ordered = sorted(group, key=lambda finding: float(finding.at["interval_s"]))
    in_time = list(takewhile(_leaves_room, reversed(ordered)))  # "or longer" must hold of what was measured
    if not in_time:
        return None
    shortest = in_time[-1]
    tried = "no shorter one was measured" if shortest is ordered[0] else "shorter ones were stored too late"
    where = conditions(shortest, "interval_s", "percentile")
    return Recommendation(
        "polling rate",
        f"an interval of {float(shortest.at['interval_s']):g} s or longer ({where}): "
        f"p{float(shortest.at['percentile']):g} of due to stored is {shortest.value:.3g} ms",
        f"the upper end is at most {MARGIN:.0%} of the interval",
        (shortest,),
        tried,
    )


def _leaves_room(finding: Finding) -> bool:
    """Whether a response time ends well before the next scan is due; true where nothing says when that is."""
    return finding.high <= MARGIN * 1000 * float(finding.at.get("interval_s", math.inf))


def _limits(findings: Sequence[Finding], resource: str) -> list[Finding]:
    """Confirmed limits of a resource: the last good value counts, whether the first bad is known or not."""
    return [
        finding
        for finding in findings
        if finding.metric == "limit"
        and str(finding.at.get("resource")) == resource
        and math.isfinite(finding.low)
        and finding.low > 0
        and finding.at.get("confirmed", _FEWEST_SEEN) >= _FEWEST_SEEN
        and not _is_generators(finding)
    ]


def _is_generators(finding: Finding) -> bool:
    """Whether what ended the search was the load generator, not the database."""
    return "generator" in f"{finding.at.get('cause', '')} {finding.at.get('rule', '')}".lower()


def _rate(finding: Finding) -> Recommendation:
    repository = finding.at.get("repository", "")
    return Recommendation(
        "polling rate",
        f"at most {MARGIN * finding.low:,.0f} scans/s altogether{f' ({repository})' if repository else ''}",
        f"{MARGIN:.0%} of the last good rate",
        (finding,),
        _ended_by(finding),
    )


def memory_per_logger(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """What a logger's memory limit should be."""
    found = of_metric(findings, "memory_mb", "repository")
    growth = {f.at.get("repository"): f for f in of_metric(findings, "memory_growth_mb_per_h")}
    given = []
    for repository in dict.fromkeys(finding.at["repository"] for finding in found):
        largest = max((f for f in found if f.at["repository"] == repository), key=lambda f: f.high)
        limit = math.ceil(_MEMORY_FACTOR * largest.high)
        leak = growth.get(repository)
        given.append(
            Recommendation(
                "memory per logger",
                f"a limit of {limit:,} MB: the most was {largest.value:,.1f} MB ({conditions(largest)})",
                f"{_MEMORY_FACTOR:g} times the upper end",
                (largest, leak) if leak else (largest,),
                _growth_in_words(leak, limit - largest.high),
            )
        )
    return given or "no memory of a logger was measured with an interval"


def _growth_in_words(leak: Finding | None, room_mb: float) -> str:
    if leak is None:
        return "whether it grows over hours was not measured"
    hours = hours_until(room_mb, leak.high)
    if hours is None:
        return "no growth was seen"
    if leak.low > 0:
        grows = f"{leak.value:.2g} MB/h [{leak.low:.2g}, {leak.high:.2g}]"
        return f"it grows by {grows}: no limit is enough for long, this one {_for_hours(hours)}"
    return f"growth of up to {leak.high:.2g} MB/h cannot be ruled out: the limit {_for_hours(hours)}"


def _for_hours(hours: float) -> str:
    return f"lasts {hours:,.2g} h at least" if hours < _LONG_H else "lasts a year at least"


def alert_thresholds(findings: Sequence[Finding]) -> list[Recommendation] | str:
    """When to wake somebody, in the metrics that `plclogger --metrics` has."""
    given = [
        *_response_alert(findings),
        *_backlog_alert(findings),
        *_snapshot_alert(findings),
        *_connection_alert(findings),
    ]
    return given or "no response time, recovery, long reader or limit was measured with an interval"


def _response_alert(findings: Sequence[Finding]) -> list[Recommendation]:
    found = [
        f
        for f in of_metric(findings, "response_ms")
        if float(f.at.get("percentile", 0)) == 99 and _leaves_room(f)
    ]
    if not found:
        return []
    worst = max(found, key=lambda finding: finding.high)
    threshold_s = _TIMES_NORMAL * worst.high / 1000
    return [
        Recommendation(
            "alert thresholds",
            f"p99 of plclogger_response_seconds above {threshold_s:.3g} s for 5 minutes",
            f"{_TIMES_NORMAL:g} times the upper end of the worst cell that was stored in time",
            (worst,),
            "warns of slowness, not of loss",
        )
    ]


def _backlog_alert(findings: Sequence[Finding]) -> list[Recommendation]:
    found = of_metric(findings, "recovery_s")
    if not found:
        return []
    longest = max(found, key=lambda finding: finding.high)
    return [
        Recommendation(
            "alert thresholds",
            f"plclogger_spool_oldest_seconds above {longest.high / MARGIN:.0f} s",
            f"the longest recovery's upper end divided by {MARGIN:g}",
            (longest,),
            "an outage that goes on is not told from a recovery before that",
        )
    ]


def _snapshot_alert(findings: Sequence[Finding]) -> list[Recommendation]:
    found = [f for f in of_metric(findings, "long_reader_throughput", "seconds") if f.high < _READER_LEFT]
    if not found:
        return []
    shortest = min(found, key=lambda finding: float(finding.at["seconds"]))
    seconds = float(shortest.at["seconds"])
    return [
        Recommendation(
            "alert thresholds",
            f"the oldest snapshot (max of now() - xact_start in pg_stat_activity where backend_xmin is set) "
            f"above {MARGIN * seconds:.2g} s: after {seconds:g} s {shortest.value:.0%} of the throughput "
            "is left",
            f"{MARGIN:.0%} of the shortest that left less than {_READER_LEFT:.0%}",
            (shortest,),
            f"reader: {shortest.at.get('reader', 'any')}; measured at saturation",
        )
    ]


def _connection_alert(findings: Sequence[Finding]) -> list[Recommendation]:
    found = _limits(findings, "connections")
    if not found:
        return []
    least = min(found, key=lambda finding: finding.low)
    return [
        Recommendation(
            "alert thresholds",
            f"more than {MARGIN * least.low:.0f} connections in pg_stat_activity",
            f"{MARGIN:.0%} of the last good number",
            (least,),
            _ended_by(least),
        )
    ]


def _ended_by(finding: Finding) -> str:
    if not math.isfinite(finding.high):
        return f"no limit was reached up to {finding.low:,.0f}"
    rule, cause = finding.at.get("rule"), finding.at.get("cause")
    because = f"{rule or 'a rule'}{f'; at its limit: {cause}' if cause else ''}"
    return f"the search ended at {finding.high:,.0f}: {because}"
