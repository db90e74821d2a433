"""When the next scan is due: `t0 + n · interval` on the monotonic clock; what is missed is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

MOST_SPREAD_S = 5.0


class Due(NamedTuple):
    """The scan to read next."""

    number: int
    """Of the stream's scans."""
    due_ns: int
    """Its intended start, monotonic clock."""
    missed: int
    """Scans just before it whose time has passed unserved."""


class Schedule:
    """Plans scans; never queues one whose time has passed.

    With an interval of 0 the next scan is due when the last one is done: as fast as it goes.
    """

    def __init__(
        self,
        interval_s: float,
        first_scan: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        start_ns: int | None = None,
    ) -> None:
        """`start_ns` is when the first scan is due, monotonic clock; none: now."""
        self.interval_ns = round(interval_s * 1e9)
        self._clock_ns = clock_ns
        self._first_scan = first_scan
        self._start_ns = clock_ns() if start_ns is None else start_ns
        self._next = 0

    def begin(self) -> None:
        """Say that polling begins: what was due before that is not missed. The phase stays."""
        if self._next == 0 and self.interval_ns:
            passed = (self._clock_ns() - self._start_ns) // self.interval_ns
            self._start_ns += max(0, passed) * self.interval_ns

    def next_due(self) -> Due:
        """The next scan; call it when the one before is done.

        A scan is missed when the next one is due already: it would start an interval late or more.
        """
        if self.interval_ns == 0:
            index = self._next
            self._next += 1
            return Due(self._first_scan + index, self._clock_ns(), 0)
        latest = (self._clock_ns() - self._start_ns) // self.interval_ns
        index = max(self._next, latest)
        missed = index - self._next
        self._next = index + 1
        return Due(self._first_scan + index, self._start_ns + index * self.interval_ns, missed)


def staggered(start_ns: int, interval_s: float, index: int, count: int) -> int:
    """When device `index` of `count` starts, so that their scans spread evenly over the interval.

    Over MOST_SPREAD_S if that is shorter: who polls once an hour wants the first values now.
    """
    return start_ns + round(min(interval_s, MOST_SPREAD_S) * 1e9) * index // max(count, 1)
