"""A piece of advice with what it rests on: cells, intervals, margin; or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.finding import Finding

MARGIN = 0.7
"""Of a limit or a budget, so much is planned with: what was measured on a good day is not to be used up."""


@dataclass(frozen=True)
class Recommendation:
    """What to do about one topic."""

    topic: str
    advice: str
    """One sentence with its figures."""
    margin: str
    """What was taken off, or added, to be safe."""
    evidence: tuple[Finding, ...]
    """The cells and intervals that it rests on, most important first."""
    limits: str = ""
    """What it does not say."""

    def to_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "advice": self.advice,
            "margin": self.margin,
            "evidence": [finding.to_json() for finding in self.evidence],
            "limits": self.limits,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recommendation:
        evidence = tuple(Finding.from_json(each) for each in data["evidence"])
        return cls(data["topic"], data["advice"], data["margin"], evidence, data["limits"])


Rule = Callable[[Sequence[Finding]], "list[Recommendation] | str"]
"""Looks at settled findings: what it recommends, or why it cannot."""


def of_metric(findings: Sequence[Finding], metric: str, *keys: str) -> list[Finding]:
    """Findings of a metric that have an interval and all of these conditions."""
    return [
        finding
        for finding in findings
        if finding.metric == metric and finding.has_interval and all(key in finding.at for key in keys)
    ]


def alike(findings: Sequence[Finding], key: str) -> list[list[Finding]]:
    """Findings of which all conditions but one are equal, as groups in the order in which they came."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        rest = {name: value for name, value in finding.at.items() if name != key}
        groups.setdefault(repr(sorted(rest.items())), []).append(finding)
    return list(groups.values())


def varied(findings: Sequence[Finding], key: str) -> list[list[Finding]]:
    """The groups in which the one condition has two or more settings."""
    return [group for group in alike(findings, key) if len({finding.at[key] for finding in group}) > 1]


def conditions(finding: Finding, *without: str) -> str:
    """The conditions of a finding in a few words: `baseline, 84 parameters, 1 scans`."""
    shown = []
    for name, value in finding.at.items():
        if name in without or value in ("", None) or value is False:
            continue
        if value is True:
            shown.append(name.replace("_", " "))
            continue
        is_count = isinstance(value, int | float)
        shown.append(
            str(value) if name in _SELF_EVIDENT else f"{value} {name}" if is_count else f"{name} {value}"
        )
    return ", ".join(shown)


_SELF_EVIDENT = ("repository", "strategy")


WIDEST = 0.25
"""A figure whose interval reaches farther than such a share of it to either side decides nothing."""
AS_MUCH = 0.9


def is_certain(finding: Finding) -> bool:
    """Whether a positive figure's interval is narrow enough to choose by it."""
    return finding.low >= (1 - WIDEST) * finding.value > 0 and finding.high <= (1 + WIDEST) * finding.value


def smallest_sufficient(findings: Sequence[Finding], key: str) -> tuple[Finding, Finding] | None:
    """(the smallest setting that gives as much as any, the one that gives most); more is better.

    As much: the interval of its ratio to the best lies above 90 %. None if the best one is not certain:
    where a figure is that wide, the best is whichever luck made it. None, too, where only the best itself is
    left because of a smaller one nobody can tell: "take the most" would follow from noise.
    """
    ordered = sorted(findings, key=lambda finding: float(finding.at[key]))
    best = max(ordered, key=lambda finding: finding.value)
    if not is_certain(best):
        return None
    enough = next(finding for finding in ordered if finding is best or _is_as_much(finding, best))
    smaller = ordered[: ordered.index(enough)]
    if enough is best and any(_may_be_as_much(finding, best) for finding in smaller):
        return None
    return enough, best


def _is_as_much(finding: Finding, best: Finding) -> bool:
    if not is_certain(finding):
        return False
    ratio = math.log(finding.value / best.value)
    down = math.hypot(math.log(finding.value / finding.low), math.log(best.high / best.value))
    return ratio - down >= math.log(AS_MUCH)


def _may_be_as_much(finding: Finding, best: Finding) -> bool:
    """Whether the interval of its ratio to the best reaches 90 %: it is not shown to be less."""
    if finding.value <= 0:
        return finding.high >= AS_MUCH * best.low
    ratio = math.log(finding.value / best.value)
    up = math.hypot(math.log(finding.high / finding.value), math.log(best.value / best.low))
    return ratio + up >= math.log(AS_MUCH)
