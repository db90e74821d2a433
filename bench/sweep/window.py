"""The part of a trial that is measured: what was due, stored and committed in it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_PARTS = 300


@dataclass(frozen=True)
class Window:
    """From its start to before its end, in nanoseconds of the monotonic clock."""

    start_ns: int
    end_ns: int

    def holds(self, at_ns: int) -> bool:
        return self.start_ns <= at_ns < self.end_ns

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def start_s(self) -> float:
        """By the clock: seconds since 1970; called in the process that measures."""
        return time.time() - (time.monotonic_ns() - self.start_ns) / 1e9

    @property
    def parts(self) -> int:
        """A second each, longer if there would be too many; the percentiles' intervals come from them."""
        return max(1, min(MOST_PARTS, int(self.seconds)))

    def part_of(self, at_ns: int) -> int:
        """The part in which a time of the window lies, from 0."""
        return (at_ns - self.start_ns) * self.parts // (self.end_ns - self.start_ns)

    def due(self, first_ns: int, interval_ns: int) -> int:
        """How many of the times first, first + interval, … lie in the window."""
        if interval_ns <= 0:
            raise ValueError("what is polled as fast as it goes has no times")
        return max(0, _before(self.end_ns, first_ns, interval_ns)) - max(
            0, _before(self.start_ns, first_ns, interval_ns)
        )


def _before(at_ns: int, first_ns: int, interval_ns: int) -> int:
    return math.ceil((at_ns - first_ns) / interval_ns)


@dataclass
class Stamps:
    """What happened to each scan and each transaction of a process: one entry a scan in each list."""

    due_ns: list[int] = field(default_factory=list)
    started_ns: list[int] = field(default_factory=list)
    committed_ns: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    commits: list[tuple[int, int]] = field(default_factory=list)
    """Start and proven commit of each transaction."""

    def stored(self, due_ns: int, started_ns: int, committed_ns: int, rows: int) -> None:
        self.due_ns.append(due_ns)
        self.started_ns.append(started_ns)
        self.committed_ns.append(committed_ns)
        self.rows.append(rows)

    def response(self, window: Window) -> list[int]:
        """Due to commit, of scans due in the window."""
        return self._between(self.due_ns, self.committed_ns, window)

    def response_by_part(self, window: Window) -> list[list[int]]:
        """The same, by the part of the window in which the scan was due."""
        parts: list[list[int]] = [[] for _ in range(window.parts)]
        for due, done in zip(self.due_ns, self.committed_ns, strict=True):
            if window.holds(due):
                parts[window.part_of(due)].append(done - due)
        return parts

    def service(self, window: Window) -> list[int]:
        """Start of the scan to its commit."""
        return self._between(self.started_ns, self.committed_ns, window)

    def lag(self, window: Window) -> list[int]:
        """Due to start."""
        return self._between(self.due_ns, self.started_ns, window)

    def commit(self, window: Window) -> list[int]:
        """Start of a transaction to its commit, of those begun in the window."""
        return [done - begun for begun, done in self.commits if window.holds(begun)]

    def rows_committed(self, window: Window) -> int:
        return sum(rows for rows, at in zip(self.rows, self.committed_ns, strict=True) if window.holds(at))

    def scans_stored(self, window: Window) -> int:
        """Of those due in the window, whenever they were committed."""
        return sum(window.holds(due) for due in self.due_ns)

    def _between(self, begins: Sequence[int], ends: Sequence[int], window: Window) -> list[int]:
        return [
            end - begin
            for due, begin, end in zip(self.due_ns, begins, ends, strict=True)
            if window.holds(due)
        ]
