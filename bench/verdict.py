"""Targets -> LOW, MEDIUM, HIGH and PASS, FAIL, INCONCLUSIVE, INVALID; pure.

PASS only if the whole interval is on the good side of the target, FAIL only if it is on the bad
side. All targets must pass; since each is judged by the interval that is printed, no correction for
several targets is due (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.statistics import Impact, wilson


class Outcome(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Of plcbench."""
        return {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4, "INVALID": 5}[self.value]


class Level(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


@dataclass(frozen=True)
class Targets:
    """The most that synchronization may cost, as shares; success as the least share."""

    throughput_loss: float = 0.20
    latency_increase: float = 0.30
    memory_increase: float = 0.40
    success: float = 0.95


@dataclass(frozen=True)
class Judgement:
    """What one target says."""

    metric: str
    outcome: Outcome
    level: str
    """LOW, MEDIUM, HIGH, or a span such as LOW-MEDIUM; empty for success and where nothing was measured."""
    target: float
    cost: Impact | None
    """Positive is worse; None for success."""
    value: float = 0.0
    """Of success: the lower end of its interval."""


def judge_cost(metric: str, cost: Impact, target: float) -> Judgement:
    """Judge a cost against its target."""
    return Judgement(metric, _outcome(cost.low, cost.high, target), level_of(cost, target), target, cost)


def judge_success(arms: Sequence[tuple[int, int]], target: float) -> Judgement:
    """Judge the share of successful transactions of the worst arm: (stored, tried) of each."""
    intervals = [wilson(stored, tried) for stored, tried in arms]
    low, high = min(low for low, _ in intervals), min(high for _, high in intervals)
    return Judgement("success", _outcome(-high, -low, -target), "", target, None, low)


def level_of(cost: Impact, target: float) -> str:
    """LOW below half of the target, MEDIUM below it, HIGH above; the span if the interval crosses.

    Empty where there is no interval.
    """
    if math.isnan(cost.low) or math.isnan(cost.high):
        return ""
    lowest, highest = _band(cost.low, target), _band(cost.high, target)
    return lowest if lowest is highest else f"{lowest}-{highest}"


def overall(judgements: Sequence[Judgement], invalid: Sequence[str]) -> Outcome:
    """INVALID outranks all; then one FAIL fails, one INCONCLUSIVE leaves it open."""
    if invalid:
        return Outcome.INVALID
    outcomes = {judgement.outcome for judgement in judgements}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def _outcome(low: float, high: float, target: float) -> Outcome:
    if high < target:
        return Outcome.PASS
    return Outcome.FAIL if low > target else Outcome.INCONCLUSIVE


def _band(value: float, target: float) -> Level:
    if value < target / 2:
        return Level.LOW
    return Level.MEDIUM if value < target else Level.HIGH
