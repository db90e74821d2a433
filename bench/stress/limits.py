"""What may be used in operation: the smallest confirmed limit of each resource × a safety factor; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.finding import Finding
from bench.report.table import Table

FEWEST_SEEN = 2
"""A level that held once has not been confirmed."""


@dataclass(frozen=True)
class OperationalLimit:
    """One resource of one arm."""

    resource: str
    repository: str
    unit: str
    held: float
    """The most that was confirmed, of the criterion that allows least."""
    broke: float
    """NaN where nothing broke: then more may be possible."""
    allowed: float
    """What to use at most."""
    rule: str
    cause: str
    cell: str
    """Which finding it rests on."""

    def to_json(self) -> dict[str, Any]:
        return {
            "resource": self.resource,
            "repository": self.repository,
            "unit": self.unit,
            "held": self.held,
            "broke": self.broke,
            "allowed": self.allowed,
            "rule": self.rule,
            "cause": self.cause,
            "cell": self.cell,
        }


def operational_limits(findings: Sequence[Finding], safety: float) -> list[OperationalLimit]:
    """Of each resource and arm the finding `limit` that allows least, × safety.

    Left out: what was not seen to hold twice, and what was left open.
    """
    usable = [
        finding
        for finding in findings
        if finding.metric == "limit"
        and finding.is_settled
        and finding.value > 0
        and finding.at.get("confirmed", FEWEST_SEEN) >= FEWEST_SEEN
    ]
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in usable:
        key = (str(finding.at["resource"]), str(finding.at.get("repository", "")))
        groups.setdefault(key, []).append(finding)
    return [
        _limit(resource, repository, min(group, key=lambda one: one.value), safety)
        for (resource, repository), group in groups.items()
    ]


def unconfirmed(findings: Sequence[Finding]) -> list[str]:
    """The cells whose limit was not seen to hold twice."""
    return [
        finding.cell
        for finding in findings
        if finding.metric == "limit" and finding.at.get("confirmed", FEWEST_SEEN) < FEWEST_SEEN
    ]


def limits_table(limits: Sequence[OperationalLimit], safety: float) -> Table:
    """A row for each resource and arm."""
    rows = [
        (
            limit.resource,
            limit.repository,
            f"{limit.allowed:,.0f} {limit.unit}",
            f"{limit.held:,.0f}",
            "—" if math.isnan(limit.broke) else f"{limit.broke:,.0f}",
            "; ".join(filter(None, (limit.rule, limit.cause))),
            limit.cell,
        )
        for limit in limits
    ]
    return Table(
        "Operational limits",
        ("resource", "arm", "at most", "held", "broke", "why", "measured in"),
        list(rows),
        f"At most: {safety:g} of what held in the criterion that allows least. Each was found with all else "
        "at ease: together they are not promised.",
    )


def _limit(resource: str, repository: str, finding: Finding, safety: float) -> OperationalLimit:
    allowed = safety * finding.value
    return OperationalLimit(
        resource,
        repository,
        finding.unit,
        finding.value,
        finding.high,
        float(math.floor(allowed)) if allowed >= 1 else allowed,
        str(finding.at.get("rule", "")),
        str(finding.at.get("cause", "")),
        finding.cell,
    )
