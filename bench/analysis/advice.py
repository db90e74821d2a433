"""What to do, from what was measured: each recommendation cites its cells, intervals and margin; pure.

Nothing is recommended from a finding that its judgement left open, nor from one without an interval;
what cannot be recommended is said with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.advice_choices import batch_size, pool_size, scaling, update_strategy
from bench.analysis.advice_limits import alert_thresholds, memory_per_logger, polling_rate
from bench.analysis.finding import Finding
from bench.analysis.recommendation import Recommendation, Rule

TOPICS: dict[str, Rule] = {
    "batch size": batch_size,
    "update strategy": update_strategy,
    "pool size": pool_size,
    "polling rate": polling_rate,
    "memory per logger": memory_per_logger,
    "scaling": scaling,
    "alert thresholds": alert_thresholds,
}


def advise(findings: Sequence[Finding]) -> list[Recommendation]:
    """Everything that can be recommended, topic by topic."""
    settled = _settled(findings)
    return [
        recommendation
        for rule in TOPICS.values()
        for recommendation in _given(rule(settled))
    ]  # fmt: skip


def unadvised(findings: Sequence[Finding]) -> dict[str, str]:
    """The topics of which nothing can be said, and why."""
    settled = _settled(findings)
    silent = {topic: rule(settled) for topic, rule in TOPICS.items()}
    return {topic: said for topic, said in silent.items() if isinstance(said, str)}


def _given(said: list[Recommendation] | str) -> list[Recommendation]:
    return [] if isinstance(said, str) else said


def _settled(findings: Sequence[Finding]) -> list[Finding]:
    """Without what was left open; the law stays, for where it cannot be told it says why."""
    return [finding for finding in findings if finding.is_settled or finding.metric == "usl_peak"]
