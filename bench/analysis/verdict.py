"""Targets -> LOW, MEDIUM, HIGH and PASS, FAIL, INCONCLUSIVE, INVALID; pure.

PASS only if the whole interval is on the good side of the target, FAIL only if it is on the bad
side. All targets must pass; since each is judged by the interval that is printed, no correction for
several targets is due (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench.analysis.sample_size import pairs_needed, trials_needed
from bench.analysis.statistics import Impact, rounded, wilson

CPU_BAND = 0.30
"""The bands of an increase of CPU time, where no target is set for it."""


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
    cpu_increase: float | None = None
    """None: CPU time is shown with its class, not judged."""
    long_reader_left: float = 0.50
    """The least share of the throughput that must be left while somebody keeps an old snapshot."""
    recovery_s: float = 30.0
    """The longest time after a fault until 95 % of the level before is reached again."""
    latency_floor_ms: float = 0.2
    """An increase of less than that passes whatever percent it is of a short time."""
    memory_floor_mb: float = 1.0
    """The same of memory."""


@dataclass(frozen=True)
class Judgement:
    """What one target says."""

    metric: str
    outcome: Outcome
    level: str
    """LOW, MEDIUM, HIGH, or a span such as LOW-MEDIUM; empty for success and where nothing was measured."""
    target: float
    cost: Impact | None
    """Positive is worse; None for everything that is no cost of B over A."""
    value: float = 0.0
    """Of success: the lower end of its interval; else the figure that was judged."""
    low: float = math.nan
    high: float = math.nan
    """The interval of what is no cost."""
    kind: str = "least"
    """Without a cost: whether the figure must be at `least` or at `most` the target, or `zero`."""
    unit: str = "share"
    note: str = ""
    """Why the percent alone did not decide."""

    def in_words(self) -> str:
        """One line: the figure with its interval, its target, what follows."""
        end = f"{self.outcome.value}{f' ({self.note})' if self.note else ''}"
        if self.cost is not None:
            cost = self.cost
            level = f"{self.level}, " if self.level else ""
            return (
                f"{cost_name(self.metric)} {_share(cost.effect)} [{_share(cost.low)}, {_share(cost.high)}], "
                f"target below {self.target:.0%}: {level}{end}"
            )
        if self.metric == "success" or self.metric.startswith("success "):
            held = self.outcome is Outcome.PASS or math.isnan(self.high)
            interval = f"above {self.value:.2%}" if held else f"{self.low:.2%} to {self.high:.2%}"
            return f"{self.metric}: {interval} (target {self.target:.0%}): {end}"
        if self.kind == "zero":
            return f"{self.metric}: {self.value:,.0f}, must be 0: {end}"
        side = "above" if self.kind == "least" else "below"
        value, low, high, target = (
            _with_unit(figure, self.unit) for figure in (self.value, self.low, self.high, self.target)
        )
        interval = "" if self.low == self.value == self.high else f" [{low}, {high}]"  # a fact has none
        return f"{self.metric}: {value}{interval}, target {side} {target}: {end}"

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "outcome": self.outcome.value,
            "level": self.level,
            "target": self.target,
            "cost": self.cost.to_json() if self.cost else None,
            "value": rounded(self.value),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "kind": self.kind,
            "unit": self.unit,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Judgement:
        """Read one back, also of a result that knew fewer keys; null means NaN."""
        cost = data["cost"]
        return cls(
            data["metric"],
            Outcome(data["outcome"]),
            data["level"],
            data["target"],
            _impact(cost, is_loss=data["metric"].startswith("throughput")) if cost else None,
            _number(data["value"]),
            _number(data.get("low")),
            _number(data.get("high")),
            data.get("kind", "least"),
            data.get("unit", "share"),
            data.get("note", ""),
        )


def judge_cost(
    metric: str, cost: Impact, target: float, a: float = math.nan, floor: float = 0.0
) -> Judgement:
    """Judge a cost against its target.

    With arm A's figure and an absolute floor in the same unit, a cost that lies below the floor with its
    whole interval passes as LOW: a large share of very little is no reason to keep anything back. Where the
    percent passes as LOW by itself, the floor has nothing to say.
    """
    outcome, level = _outcome(cost.low, cost.high, target), level_of(cost, target)
    if cost.high * a < floor and (outcome, level) != (Outcome.PASS, Level.LOW.value):
        unit = next((unit for name, unit in _FLOOR_UNITS.items() if metric.startswith(name)), "")
        note = f"at most {cost.high * a:+.2g}{unit}, below the floor of {floor:g}{unit}"
        return Judgement(metric, Outcome.PASS, Level.LOW.value, target, cost, note=note)
    return Judgement(metric, outcome, level, target, cost)


def judge_success(arms: Sequence[tuple[int, int]], target: float) -> Judgement:
    """Judge the share of successful transactions of the worst arm: (stored, tried) of each, one at least."""
    intervals = [wilson(stored, tried) for stored, tried in arms]
    low, high = min(low for low, _ in intervals), min(high for _, high in intervals)
    outcome = _outcome(-high, -low, -target)
    note = ""
    if outcome is Outcome.INCONCLUSIVE:
        trials = max(trials_needed(target, tried - stored) for stored, tried in arms)
        note = f"{trials:,} tries of each arm without another failure would pass"
    return Judgement("success", outcome, "", target, None, low, low, high, note=note)


def judge_least(
    metric: str, value: float, low: float, high: float, target: float, unit: str = "share"
) -> Judgement:
    """Judge a figure that must lie above its target with its whole interval; NaN leaves it open."""
    return Judgement(
        metric, _outcome(-high, -low, -target), "", target, None, value, low, high, "least", unit
    )


def judge_most(
    metric: str, value: float, low: float, high: float, target: float, unit: str = "share"
) -> Judgement:
    """Judge a figure that must lie below its target with its whole interval; NaN leaves it open."""
    return Judgement(metric, _outcome(low, high, target), "", target, None, value, low, high, "most", unit)


def judge_zero(metric: str, count: int, checked: int) -> Judgement:
    """Judge what must never happen (lost, duplicated, torn, deadlocked); open where nothing was checked."""
    outcome = Outcome.FAIL if count else Outcome.PASS if checked else Outcome.INCONCLUSIVE
    note = f"{checked:,} checked"
    return Judgement(metric, outcome, "", 0.0, None, count, count, count, "zero", "", note)


def aa_gate(cost: Impact, target: float) -> str:
    """Why two equal arms differ too much to judge by this target; empty if they do not.

    The interval must lie inside half of the target on both sides: to merely hold 0 says little, for a
    noisy environment holds it best, and a very quiet one leaves it out one time in twenty.
    """
    if -target / 2 < cost.low <= cost.high < target / 2:
        return ""
    why = f"arm A against itself: [{_share(cost.low)}, {_share(cost.high)}] is not inside ±{target / 2:.0%}"
    if cost.low <= 0 <= cost.high and cost.sd > 0:
        with suppress(ValueError):  # so wide that no number of pairs would do
            why += f"; with such a spread {pairs_needed(cost.sd, target / 2):,} pairs are needed"
    return why


def level_of(cost: Impact, target: float) -> str:
    """LOW below half of the target, MEDIUM below it, HIGH above; the span if the interval crosses.

    Empty where there is no interval.
    """
    if math.isnan(cost.low) or math.isnan(cost.high):
        return ""
    lowest, highest = _band(cost.low, target), _band(cost.high, target)
    return lowest if lowest is highest else f"{lowest}-{highest}"


def shown_class(metric: str, low: float, high: float) -> str:
    """The class of a cost that has bands though it is not judged: of CPU; empty for every other one."""
    return level_of(Impact(math.nan, low, high, 0, math.nan), CPU_BAND) if metric == "cpu" else ""


def overall(judgements: Sequence[Judgement], invalid: Sequence[str]) -> Outcome:
    """INVALID outranks all; then one FAIL fails, one INCONCLUSIVE leaves it open."""
    if invalid:
        return Outcome.INVALID
    outcomes = {judgement.outcome for judgement in judgements}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def cost_name(metric: str) -> str:
    """What a judged cost is called: `throughput` is judged by its loss."""
    for name, said in _COSTS.items():
        if metric == name or metric.startswith(f"{name} "):
            return said + metric.removeprefix(name)
    return f"{metric} increase"


_FLOOR_UNITS = {"median response": " ms", "memory": " MB"}
_COSTS = {
    "throughput": "throughput loss",
    "median response": "latency increase (median response)",
    "memory": "memory increase",
    "cpu": "CPU increase",
}


def _outcome(low: float, high: float, target: float) -> Outcome:
    if high < target:
        return Outcome.PASS
    return Outcome.FAIL if low > target else Outcome.INCONCLUSIVE


def _band(value: float, target: float) -> Level:
    if value < target / 2:
        return Level.LOW
    return Level.MEDIUM if value < target else Level.HIGH


def _share(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{share:+.1%}"


def _with_unit(figure: float, unit: str) -> str:
    if math.isnan(figure):
        return "n/a"
    if math.isinf(figure):
        return "no end seen"
    return f"{figure:.1%}" if unit == "share" else f"{figure:,.4g} {unit}".rstrip()


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _impact(data: dict[str, Any], is_loss: bool) -> Impact:
    effect, low, high, sd = (_number(data[key]) for key in ("effect", "low", "high", "sd_of_log_ratio"))
    return Impact(effect, low, high, data["pairs"], sd, is_loss)
