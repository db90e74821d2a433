"""When a level of load is too much: the stop rules; pure.

A rule fires only on what the window can show: a share by the good end of its Wilson interval, a backlog
by medians. What the load generator could not do is never called a limit of the database.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.analysis.breaking_point import Observation
from bench.load.failures import Failure
from bench.stress.pressure import Pressure
from bench.stress.window import Window

_LATE_SHARE = 0.01
"""A p99 above its limit means that more than this share is later."""
_LEAST_RATE = 0.95
_MOST_BACKLOG = 0.02
"""Seconds by which the work begins later, each second: an overload of 2 %."""
_LEAST_OF_BEST = 0.9


@dataclass(frozen=True)
class Criteria:
    """What a level must keep."""

    p99_ms: float
    """The longest p99 of the response."""
    success: float = 0.95


def observed(window: Window, pressure: Pressure, criteria: Criteria, best_per_s: float = 0.0) -> Observation:
    """Whether the level was carried; if not, the rule that fired and the resource at its limit.

    `best_per_s`: the most that a lower level of a closed loop has stored.
    """
    rule = _broken_rule(window, criteria, best_per_s)
    if not rule:
        return Observation(True)
    if window.failures.get(Failure.TOO_MANY_CONNECTIONS):
        return Observation(False, rule, "max_connections of the server")
    return Observation(False, rule, pressure.cause, is_generators=pressure.is_generators)


def _broken_rule(window: Window, criteria: Criteria, best_per_s: float) -> str:
    if window.failures.get(Failure.TOO_MANY_CONNECTIONS):
        return "connections were refused"
    if window.success[1] < criteria.success:
        return f"less than {criteria.success:.0%} was stored"
    if window.share_later_than(criteria.p99_ms)[0] > _LATE_SHARE:
        return f"p99 of the response above {criteria.p99_ms:g} ms"
    if window.offered_per_s and window.per_s < _LEAST_RATE * window.offered_per_s:
        return f"less than {_LEAST_RATE:.0%} of the rate was reached"
    if window.backlog_s_per_s > _MOST_BACKLOG:
        return "the backlog grew"
    if window.per_s < _LEAST_OF_BEST * best_per_s:
        return f"throughput fell below {_LEAST_OF_BEST:.0%} of the best"
    return ""
