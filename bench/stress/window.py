"""The attempts of a crowd in one window -> figures; pure.

response = done - intended, service = done - begun without the wait for a connection, wait = begun -
intended, pool wait = what a writer waited for a connection of the pool. Only what was stored enters
them; what failed has a histogram of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.statistics import wilson
from bench.load.failures import Failure
from bench.measuring.latency import Latencies, Merged, latencies_of
from bench.stress.writer import OUTCOMES, Schedule

_OK, _SKIPPED = OUTCOMES.index(Failure.OK), OUTCOMES.index(Failure.SKIPPED)
_FEWEST_FOR_SLOPE = 9
PERCENTILES = (50.0, 95.0, 99.0)


@dataclass(frozen=True)
class Window:
    """One window."""

    seconds: float
    """From the common start until the last attempt was over, or the plan's end if that is later."""
    offered_per_s: float
    """What the schedule asked for; 0 in a closed loop."""
    stored: int
    tried: int
    """Skipped ones included."""
    failures: dict[str, int]
    """By `Failure`."""
    response: Latencies
    service: Latencies
    wait: Latencies
    pool_wait: Latencies
    failed: Latencies
    """From due to the failure, of what failed."""
    responses_ms: NDArray[np.float64]
    backlog_s_per_s: float
    """By how much later each second's work begins; 0 while the load is carried, 1 - 1/overload beyond.
    NaN where too little was done to say."""
    simultaneous: int
    """The most that were under way at the same time."""
    mean_simultaneous: float
    """The mean of that over the window (Little's N = X·R of the service)."""

    @property
    def per_s(self) -> float:
        """Stored transactions a second: goodput."""
        return self.stored / self.seconds if self.seconds else 0.0

    @property
    def success(self) -> tuple[float, float]:
        """95 % interval of the share of what was tried that was stored (Wilson)."""
        return wilson(self.stored, self.tried)

    def share_later_than(self, milliseconds: float) -> tuple[float, float]:
        """95 % interval of the share of stored transactions whose response took longer (Wilson)."""
        return wilson(int(np.count_nonzero(self.responses_ms > milliseconds)), len(self.responses_ms))

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "offered_per_s": self.offered_per_s,
            "per_s": round(self.per_s, 2),
            "stored": self.stored,
            "tried": self.tried,
            "failures": self.failures,
            "simultaneous": self.simultaneous,
            "mean_simultaneous": round(self.mean_simultaneous, 2),
            "backlog_s_per_s": round(self.backlog_s_per_s, 4),
            "response": self.response.to_json(),
            "service": self.service.to_json(),
            "wait": self.wait.to_json(),
            "pool_wait": self.pool_wait.to_json(),
            "failed": self.failed.to_json(),
        }


def window_of(attempts: NDArray[np.void], schedule: Schedule) -> Window:
    """The figures of a window; attempts of dtype `ATTEMPT`."""
    begun = attempts[attempts["outcome"] != _SKIPPED]
    ok = begun[begun["outcome"] == _OK]
    bad = begun[begun["outcome"] != _OK]
    over_ns = max([*begun["done_ns"], schedule.start_ns]) - schedule.start_ns
    seconds = max(over_ns / 1e9, schedule.seconds if schedule.rate_per_s else 0.0)
    simultaneous, busy_ns = _simultaneous(begun)
    counts = np.bincount(attempts["outcome"], minlength=len(OUTCOMES))
    return Window(
        seconds=float(seconds),
        offered_per_s=schedule.rate_per_s,
        stored=len(ok),
        tried=len(attempts),
        failures={str(OUTCOMES[i]): int(n) for i, n in enumerate(counts) if n and i != _OK},
        response=latencies_of(ok["done_ns"] - ok["intended_ns"]),
        service=latencies_of(ok["done_ns"] - ok["begun_ns"] - ok["pool_ns"]),
        wait=latencies_of(ok["begun_ns"] - ok["intended_ns"]),
        pool_wait=latencies_of(ok["pool_ns"]),
        failed=latencies_of(bad["done_ns"] - bad["intended_ns"]),
        responses_ms=(ok["done_ns"] - ok["intended_ns"]) / 1e6,
        backlog_s_per_s=_backlog(begun) if schedule.rate_per_s else math.nan,
        simultaneous=simultaneous,
        mean_simultaneous=busy_ns / 1e9 / float(seconds) if seconds else 0.0,
    )


def pool_waits(attempts: NDArray[np.void], schedule: Schedule, parts: int = 8) -> list[Latencies]:
    """Waits for a connection in equal parts of the window, by when they began: the interval of a
    percentile rests on these, for what waits together is no independent evidence."""
    begun = attempts[attempts["outcome"] != _SKIPPED]
    at = (begun["begun_ns"] - schedule.start_ns) / (1e9 * schedule.seconds)
    part = np.clip((at * parts).astype(np.int64), 0, parts - 1)
    return [latencies_of(begun["pool_ns"][part == n]) for n in range(parts)]


def percentile_ms(latencies: Latencies, percent: float) -> float:
    """A percentile in milliseconds; NaN where too few values lie beyond it to say."""
    return Merged([latencies]).percentile_us(percent) / 1000 if latencies.count else math.nan


def _backlog(begun: NDArray[np.void]) -> float:
    """Growth of the wait between the first and the last third of the window, by their medians: one
    stall moves no median of a third, a load that is not carried moves them all."""
    if len(begun) < _FEWEST_FOR_SLOPE:
        return math.nan
    ordered = np.sort(begun, order="intended_ns")
    third = len(ordered) // 3
    first, last = ordered[:third], ordered[-third:]
    waited = [float(np.median(part["begun_ns"] - part["intended_ns"])) for part in (first, last)]
    at = [float(np.median(part["intended_ns"])) for part in (first, last)]
    return (waited[1] - waited[0]) / (at[1] - at[0]) if at[1] > at[0] else math.nan


def _simultaneous(begun: NDArray[np.void]) -> tuple[int, float]:
    """The most attempts that were under way at once, connection in hand; and the time they took in all."""
    if not len(begun):
        return 0, 0.0
    starts, ends = begun["begun_ns"] + begun["pool_ns"], begun["done_ns"]
    at = np.concatenate([ends, starts])  # at the same instant an end comes before a start
    step = np.concatenate([np.full(len(ends), -1), np.ones(len(starts), dtype=np.int64)])
    order = np.argsort(at, kind="stable")
    return int(np.cumsum(step[order]).max()), float((ends - starts).sum())
