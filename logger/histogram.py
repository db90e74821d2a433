"""Durations counted in buckets, so that those of many threads and processes can be put together."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Self

_STEPS = (
    1.0,
    1.1,
    1.2,
    1.35,
    1.5,
    1.75,
    2.0,
    2.25,
    2.5,
    2.75,
    3.0,
    3.5,
    4.0,
    4.5,
    5.0,
    5.5,
    6.0,
    7.0,
    8.0,
    9.0,
)
BOUNDS: tuple[float, ...] = tuple(
    float(f"{step * 10.0**decade:.3g}") for decade in range(-5, 4) for step in _STEPS
)
"""Upper bounds of the buckets in seconds, 10 µs to 9,000 s; neighbours are at most 17 % apart."""


class Histogram:
    """How many durations fell into each bucket; any thread may add."""

    def __init__(self, counts: Sequence[int] | None = None, total_s: float = 0.0) -> None:
        self.counts = [0] * (len(BOUNDS) + 1) if counts is None else list(counts)
        """Of each bucket of BOUNDS, and of what is above the last."""
        self.total_s = total_s
        self._lock = threading.Lock()

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a duration; a negative one, where a clock was set back, is 0."""
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.counts[bucket] += count
            self.total_s += max(seconds, 0.0) * count

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> Histogram:
        with self._lock:
            return Histogram(self.counts, self.total_s)

    def since(self, before: Histogram) -> Histogram:
        """What was added since an earlier copy."""
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return Histogram(counts, self.total_s - before.total_s)

    def percentile(self, percent: float) -> float:
        """In seconds, at most 17 % off; NaN while nothing was counted."""
        wanted = percent / 100 * self.count
        if not wanted:
            return float("nan")
        below = 0
        for bucket, count in enumerate(self.counts):
            if below + count >= wanted and count:
                low = BOUNDS[bucket - 1] if bucket else 0.0
                high = BOUNDS[bucket] if bucket < len(BOUNDS) else low
                return low + (high - low) * (wanted - below) / count
            below += count
        return BOUNDS[-1]

    def at_most(self, bounds: Iterable[float]) -> list[int]:
        """How many durations were at most so long, for bounds that BOUNDS has."""
        cumulative, below = [], 0
        for count in self.counts:
            below += count
            cumulative.append(below)
        return [cumulative[BOUNDS.index(bound)] for bound in bounds]

    def to_json(self) -> dict[str, object]:
        return {
            "counts": {str(i): count for i, count in enumerate(self.counts) if count},
            "total_s": round(self.total_s, 6),
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        histogram = cls()
        counts = data["counts"]
        if not isinstance(counts, dict):
            raise TypeError("counts must be a mapping")
        for bucket, count in counts.items():
            histogram.counts[int(bucket)] = int(count)
        histogram.total_s = float(str(data["total_s"]))
        return histogram


def together(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    merged = Histogram()
    for histogram in histograms:
        merged.counts = [a + b for a, b in zip(merged.counts, histogram.counts, strict=True)]
        merged.total_s += histogram.total_s
    return merged
