"""One thing that was measured, with its interval and where: what advice and the verdict rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.analysis.verdict import Outcome

if TYPE_CHECKING:
    from bench.analysis.scaling import UslFit


@dataclass(frozen=True)
class Finding:
    """A figure that somebody may act on."""

    metric: str
    """What, in the words of `METRICS`."""
    value: float
    low: float
    high: float
    """Its 95 % interval; NaN where it has none."""
    unit: str
    cell: str
    """The part or scenario and the place in it that measured it, as a reader finds it in the result."""
    at: dict[str, Any] = field(default_factory=dict)
    """The conditions: parameters, scans, connections, repository, …"""
    outcome: Outcome | None = None
    """How it was judged; None where it has no target."""

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_settled(self) -> bool:
        """Whether anything may be concluded from it: not where its judgement was left open."""
        return self.outcome not in (Outcome.INCONCLUSIVE, Outcome.INVALID) and math.isfinite(self.value)

    def in_words(self) -> str:
        """`response_ms 4.1 ms [3.9, 4.4] in baseline/10x`."""
        interval = f" [{_figure(self.low)}, {_figure(self.high)}]" if self.has_interval else ", no interval"
        return f"{self.metric} {_figure(self.value)} {self.unit}{interval} in {self.cell}"

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "cell": self.cell,
            "at": self.at,
            "outcome": self.outcome.value if self.outcome else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """Read one back; null means NaN."""

        def number(key: str) -> float:
            return float("nan") if data[key] is None else float(data[key])

        outcome = Outcome(data["outcome"]) if data["outcome"] else None
        return cls(
            data["metric"], number("value"), number("low"), number("high"), data["unit"], data["cell"],
            data["at"], outcome,
        )  # fmt: skip


METRICS = {
    "throughput_loss": "share of A's transactions a second that B does not reach at saturation",
    "latency_increase": "share by which B's median response is longer at one rate that both carry",
    "memory_increase": "share by which B's worker and backend use more",
    "cpu_increase": "share by which B's worker and backend compute longer for a transaction",
    "success": "share of what was tried that was stored",
    "throughput": "transactions/s; at repository, connections, rows (same, disjoint), parameters",
    "parameters_per_s": "values/s stored; at repository, parameters, scans (of a transaction), strategy",
    "response_ms": "due to stored; at repository, percentile, interval_s, devices, parameters",
    "strategy_us": "time of the update of current values; at strategy, parameters",
    "pool_wait_ms": "wait for a connection; at percentile, pool_size, demand",
    "memory_mb": "of a logger; at repository, parameters, scans",
    "memory_growth_mb_per_h": "slope of window minima; at repository",
    "cpu_us": "CPU time of worker and backend for a transaction; at repository, parameters",
    "wal_bytes": "of a transaction; at repository",
    "long_reader_throughput": "share of the throughput before that is left; at seconds, reader, repository",
    "recovery_s": "until 95 % of the level before is reached again; at fault",
    "violations": "of the invariants I1 to I6",
    "deadlocks": "of a part, as the server counts them; at repository, writers",
    "limit": "the most that was confirmed; at resource (rate, parameters, connections, …), rule, cause",
    "usl_sigma": "contention of the scalability law; at repository, rows, tested, why_not",
    "usl_kappa": "coherency of the scalability law; at repository, rows, tested, why_not",
    "usl_peak": "connections of most throughput by the law; at repository, rows, tested (most that were "
    "measured), why_not (why it cannot be told; empty if it can)",
}
"""The words of `Finding.metric`, each with its meaning and the keys of `at`."""


def usl_findings(fit: UslFit, cell: str, repository: str, rows: str, tested: float) -> list[Finding]:
    """Findings of a fitted scalability law; `tested` is the most connections that were measured.

    Where the levels do not tell the peak it has no value, and `why_not` says why.
    """
    at = {"repository": repository, "rows": rows, "tested": tested, "why_not": fit.why_not}
    nan = math.nan
    peak = (fit.peak_n.value, fit.peak_n.low, fit.peak_n.high) if fit.peak_n else (nan, nan, nan)
    return [
        Finding("usl_sigma", fit.sigma.value, fit.sigma.low, fit.sigma.high, "", cell, at),
        Finding("usl_kappa", fit.kappa.value, fit.kappa.low, fit.kappa.high, "", cell, at),
        Finding("usl_peak", *peak, "connections", cell, at),
    ]


def _figure(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
